"""Secrets that may change while a process runs: a file that is read again whenever it has changed.

Kubernetes replaces such a file by swapping a link, so its inode changes; other tools write it anew, so its time or its size changes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


class SecretFile:
    """The secret in a file, without the line break at its end. Raises OSError or ValueError if it cannot be read at first.

    A file that later disappears or is empty leaves the last secret in force: it may be in the middle of its replacement.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _mark(path)
        self._value = _content(path)

    def read(self) -> str:
        """The current secret."""
        try:
            found = _mark(self._path)
            if found != self._seen:
                self._value = _content(self._path)
                self._seen = found
                log().info("secret_changed", file=str(self._path))
        except (OSError, ValueError) as error:
            log().warning("secret_unreadable", file=str(self._path), reason=type(error).__name__)
        return self._value


Secret = str | SecretFile
"""A secret that stays as it is, or the file that holds it; `reveal` gives its current value."""


def reveal(secret: Secret) -> str:
    """The current value of a secret. Call it each time that the secret is used."""
    return secret if isinstance(secret, str) else secret.read()


def log() -> Any:
    """The log of what changes while a process runs."""
    # The command line imports this module, and structlog would double its start-up time.
    import structlog

    return structlog.get_logger()


def _mark(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)  # noqa: PTH116 - a third of the time of Path.stat, and it is called for every use of the secret
    return status.st_ino, status.st_mtime_ns, status.st_size


def _content(path: Path) -> str:
    text = path.read_text(encoding="utf-8").rstrip("\r\n")
    if not text:
        raise ValueError("the file is empty")
    return text
