"""The local engine counts as started when it accepts its administrator, which on a busy machine is later than when it listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from workers.local.camunda import Camunda, EngineDatabase
from workers.local.errors import StackError

PASSWORD_REFUSED = 401


class ColdEngine(ThreadingHTTPServer):
    """Lists its engines at once, drops its first logins without an answer, and then answers each with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.drops = 2
        self.logins = 0


class _Handler(BaseHTTPRequestHandler):
    server: ColdEngine

    def do_GET(self) -> None:
        if self.path.endswith("/version"):
            self.server.logins += 1
            if self.server.logins <= self.server.drops:
                return
        self.send_response(self.server.status if self.path.endswith("/version") else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, *_: object) -> None:
        """Keep the test output clean."""


@contextmanager
def serving(status: int) -> Iterator[ColdEngine]:
    with ColdEngine(status) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """A program that runs and does nothing, in place of the JVM: the test's own server answers for it."""
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o700)
    return program


@contextmanager
def started(server: ColdEngine, java: Path) -> Iterator[Camunda]:
    database = EngineDatabase(jdbc_url="jdbc:none", user="nobody", password="none")
    (java.parent / "logs").mkdir()
    engine = Camunda(java.parent, server.server_port, java, database, ("admin", "secret"))
    engine.launch([])
    try:
        yield engine
    finally:
        engine.stop()


def test_an_engine_that_drops_its_first_logins_is_waited_for(java: Path) -> None:
    with serving(200) as server, started(server, java) as engine:
        engine.wait()

        assert server.logins > server.drops


def test_an_engine_that_refuses_the_administrators_password_is_not_waited_for(java: Path) -> None:
    with (
        serving(PASSWORD_REFUSED) as server,
        started(server, java) as engine,
        pytest.raises(StackError, match="refuses the password"),
    ):
        engine.wait()
