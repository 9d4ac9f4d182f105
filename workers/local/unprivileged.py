"""Runs PostgreSQL as an ordinary user when the stack is started by root, because PostgreSQL refuses root.

The user may not be allowed to enter root's directories (a home, a private temporary directory). Rather than opening
those to everybody, the one process is given the capability to pass them.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from workers.local.errors import StackError

ACCOUNT = "q2o-postgres"
# To pass directories. The first suffices; containers often have only the second.
_PASSING = ("dac_read_search", "dac_override")
# To set the secure bit that goes with it.
_SECURE_BITS = "setpcap"
# Bits of the kernel's capability sets.
_BITS = {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}


def is_root() -> bool:
    return os.geteuid() == 0


def hand_over(path: Path) -> None:
    """Give the path to the account, when the stack runs as root."""
    if is_root():
        account = _account()
        os.chown(path, account.pw_uid, account.pw_gid)


def prefix(needed: Iterable[Path]) -> list[str]:
    """Build what stands before a command so that it runs as an ordinary user; empty when the stack does already.

    Raises StackError when the machine offers no way.
    """
    if not is_root():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL does not run as root and the program setpriv is missing: start as an ordinary user, or give Q2O_DATABASE_URL"
        )
    account = _account()
    command = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    private = [path for path in needed if not _open_to_all(path)]
    if not private:
        return command
    capability = _passing_capability(private)
    # access() checks a path without the caller's capabilities unless the real user is root, so initdb would not find `postgres` beside
    # itself in a private directory, although it may run it. This secure bit makes access() count the capabilities for every user.
    return [*command, "--securebits=+no_setuid_fixup", f"--inh-caps=-all,+{capability}", f"--ambient-caps=-all,+{capability}"]


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        _create_account()
        return pwd.getpwnam(ACCOUNT)


def _create_account() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT]
    try:
        made = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the command is ours
    except FileNotFoundError:
        raise StackError(
            f"PostgreSQL does not run as root and useradd is missing: create a user {ACCOUNT}, or start as an ordinary user"
        ) from None
    # Another stack that starts at the same moment may have been first (exit code 9: the name is taken).
    if made.returncode not in {0, 9}:
        raise StackError(
            f"Cannot create the user {ACCOUNT} for PostgreSQL ({made.stderr.strip()}): create it, or start as an ordinary user"
        )


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path, *path.resolve().parents) if each.is_dir())


def _passing_capability(private: Iterable[Path]) -> str:
    held = _capabilities()
    if _SECURE_BITS in held:
        for name in _PASSING:
            if name in held:
                return name
    raise StackError(
        f"PostgreSQL's user may not enter the directories of {' and '.join(map(str, private))}: "
        "move them below one that others may enter (Q2O_DATA_DIR names the data's), or start as an ordinary user"
    )


def _capabilities() -> set[str]:
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return {name for name, bit in _BITS.items() if effective >> bit & 1}
