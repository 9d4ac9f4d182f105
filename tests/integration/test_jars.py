"""A download of jars goes on after the network failed for a moment."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from workers.local.jars import JarStore, LockedJar

CONTENT = b"a jar"
JAR = LockedJar(group="org.example", artifact="thing", version="1.0", classifier="", sha256=hashlib.sha256(CONTENT).hexdigest())


class Registry(ThreadingHTTPServer):
    """A registry that hangs up on the first requests, and then serves the jar."""

    def __init__(self, failures: int) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.failures = failures


class Answer(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        if not self.path.endswith(".jar"):
            self.send_error(404)
        elif self.server.failures:
            self.server.failures -= 1
            self.connection.close()
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def registry(failures: int, home: Path) -> Iterator[Registry]:
    """Serve, and name it as the mirror in the user's settings."""
    with Registry(failures) as server:
        (home / ".config").mkdir()
        (home / ".config" / "jgo.conf").write_text(f"[repositories]\nmirror = http://127.0.0.1:{server.server_port}\n")
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def test_a_download_that_breaks_off_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))
    with registry(2, tmp_path) as server:
        [path] = JarStore(tmp_path / "jars").provide([JAR])

    assert path.read_bytes() == CONTENT
    assert server.failures == 0
