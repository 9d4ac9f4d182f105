"""The one error of the local stack: a line that a person can act on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class StackError(Exception):
    """The local stack cannot start or go on; the text is one line that says what to do. Nothing is left running."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn what the file system refuses (no space, no permission, no directory) into a StackError."""
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise StackError(
                f"The disk is full at {where}: free some space, or set Q2O_DATA_DIR to a directory with room"
            ) from error
        raise StackError(
            f"Cannot use {where} ({error.strerror or error}): make it writable, or set Q2O_DATA_DIR to another directory"
        ) from error
