"""The one error of the local stack. Its text is a line that tells a person what to do."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# A new cluster, a new broker and the engine's tables take about 150 MiB; with less, a start fails halfway.
NEEDED_MIB = 300


class StackError(Exception):
    """The local stack cannot start, or cannot continue. The text is one line that says what to do; nothing is left running."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn errors of the file system (no space, no permission, no directory) into a StackError."""
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StackError(
                f"The disk is full at {where}: free some space, or set Q2O_DATA_DIR to a directory on another disk"
            ) from error
        raise StackError(
            f"Cannot use {where} ({error.strerror or error}): make it writable, or set Q2O_DATA_DIR to another directory"
        ) from error


def check_space(directory: Path, needed_mib: int = NEEDED_MIB) -> None:
    """Raise StackError when the file system of the directory has less space than the services need to start."""
    free_mib = shutil.disk_usage(directory).free // 2**20
    if free_mib < needed_mib:
        raise StackError(
            f"Only {free_mib} MiB are free at {directory}, but {needed_mib} MiB are needed: free some space, or set Q2O_DATA_DIR to a directory on another disk"
        )
