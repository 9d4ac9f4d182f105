"""A download of jars goes on after the network failed for a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.answering import Reply, Request, answering
from workers.local.jars import JarStore, LockedJar

CONTENT = b"a jar"
JAR = LockedJar(group="org.example", artifact="thing", version="1.0", classifier="", sha256=hashlib.sha256(CONTENT).hexdigest())


class Registry:
    """A registry that hangs up on the first requests for a jar, and then serves it."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def answer(self, request: Request) -> Reply | None:
        if not request.path.endswith(".jar"):
            return Reply(status=404)
        if self.failures:
            self.failures -= 1
            return None
        return Reply(body=CONTENT)


@contextmanager
def registry(failures: int, home: Path) -> Iterator[Registry]:
    """Serve, and name it as the mirror in the user's settings."""
    registry = Registry(failures)
    with answering(registry.answer) as address:
        (home / ".config").mkdir()
        (home / ".config" / "jgo.conf").write_text(f"[repositories]\nmirror = {address}\n")
        yield registry


def test_a_download_that_breaks_off_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))
    with registry(2, tmp_path) as server:
        [path] = JarStore(tmp_path / "jars").provide([JAR])

    assert path.read_bytes() == CONTENT
    assert server.failures == 0
