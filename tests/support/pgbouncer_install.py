"""Installs two PgBouncers, each in a Debian of its own below `build/pgbouncer`: one that keeps prepared statements, and one that does not.

Run by `make pgbouncer`, as root on a Debian machine with debootstrap. The packages come from the mirror of the machine's own apt sources.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from tests.support.pgbouncer import INSTALLED, NEW, OLD


def mirror() -> str:
    """The address of Debian's packages in apt's sources."""
    targets = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.removeprefix("Debian ") for line in targets.stdout.splitlines() if line.startswith("Debian ")]
    if not found:
        sys.exit("apt has no source of Debian itself, or no list of it: run `apt-get update`")
    return found[0]


def install(release: str, address: str) -> None:
    """Make the release's folder, under another name until it is whole."""
    new = INSTALLED / f"{release}.new"
    shutil.rmtree(new, ignore_errors=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["debootstrap", "--variant=minbase", "--include=pgbouncer", release, str(new), address], check=True)
    new.rename(INSTALLED / release)


def main() -> None:
    """Install what is missing."""
    missing = [release for release in (NEW, OLD) if not (INSTALLED / release).exists()]
    if not missing:
        return
    if os.geteuid() != 0:
        sys.exit("debootstrap needs root")
    if shutil.which("debootstrap") is None:
        subprocess.run(["apt-get", "install", "--yes", "debootstrap"], check=True)
    for release in missing:
        install(release, mirror())


if __name__ == "__main__":
    main()
