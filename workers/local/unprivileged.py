"""Runs PostgreSQL as an ordinary user when root starts the stack, because PostgreSQL refuses to run as root.

That user may not be allowed to enter root's directories (a home, a private temporary directory). Instead of opening those
to everybody, we give this one process the capability to enter them.
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
# Capabilities to enter any directory. The first is enough; containers often have only the second.
_ENTERING = ("dac_read_search", "dac_override")
# The capability to set the secure bit that `prefix` needs.
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
    """Build the words before a command that make it run as an ordinary user; none when the stack does not run as root.

    `needed`: the paths that the command must reach. Raises StackError when this is not possible on this machine.
    """
    if not is_root():
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "PostgreSQL does not run as root and the program setpriv is missing: start as an ordinary user, or set Q2O_DATABASE_URL"
        )
    account = _account()
    command = [setpriv, f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups"]
    private = [path for path in needed if not _open_to_all(path)]
    if not private:
        return command
    capability = _entering_capability(private)
    # access() ignores capabilities unless the real user is root. In a private directory initdb would then not find the program `postgres`
    # beside itself, although it may run it. With this secure bit, access() respects the capabilities of every user.
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
        created = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the command is ours
    except FileNotFoundError:
        raise StackError(
            f"PostgreSQL does not run as root and useradd is missing: create a user {ACCOUNT}, or start as an ordinary user"
        ) from None
    # Exit code 9: the account exists, because another stack that starts at the same moment was first.
    if created.returncode not in {0, 9}:
        raise StackError(
            f"Cannot create the user {ACCOUNT} for PostgreSQL ({created.stderr.strip()}): create it, or start as an ordinary user"
        )


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path, *path.resolve().parents) if each.is_dir())


def _entering_capability(private: Iterable[Path]) -> str:
    available = _capabilities()
    if _SECURE_BITS in available:
        for name in _ENTERING:
            if name in available:
                return name
    raise StackError(
        f"The user that runs PostgreSQL may not enter the directories of {' and '.join(map(str, private))}: "
        "move them below a directory that everybody may enter (Q2O_DATA_DIR sets the directory of the data), or start as an ordinary user"
    )


def _capabilities() -> set[str]:
    status = Path("/proc/self/status").read_text()
    effective = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), 16)
    return {name for name, bit in _BITS.items() if effective >> bit & 1}
