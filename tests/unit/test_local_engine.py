"""The local engine counts as started when it accepts its administrator, which on a busy machine is later than when it listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.answering import Reply, Request, answering
from workers.local.camunda import Camunda, EngineDatabase
from workers.local.errors import StackError

PASSWORD_REFUSED = 401


class ColdEngine:
    """Lists its engines at once, drops its first logins without an answer, and then answers each with `status`."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.drops = 2
        self.logins = 0

    def answer(self, request: Request) -> Reply | None:
        if not request.path.endswith("/version"):
            return Reply(body=b"[]")
        self.logins += 1
        return None if self.logins <= self.drops else Reply(status=self.status, body=b"{}")


@pytest.fixture
def java(tmp_path: Path) -> Path:
    """A program that runs and does nothing, in place of the JVM: the test's own server answers for it."""
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    program.chmod(0o700)
    return program


@contextmanager
def started(cold: ColdEngine, java: Path) -> Iterator[Camunda]:
    database = EngineDatabase(jdbc_url="jdbc:none", user="nobody", password="none")
    (java.parent / "logs").mkdir()
    with answering(cold.answer) as address:
        engine = Camunda(java.parent, int(address.rpartition(":")[2]), java, database, ("admin", "secret"))
        engine.launch([])
        try:
            yield engine
        finally:
            engine.stop()


def test_an_engine_that_drops_its_first_logins_is_waited_for(java: Path) -> None:
    cold = ColdEngine(200)

    with started(cold, java) as engine:
        engine.wait()

    assert cold.logins > cold.drops


def test_an_engine_that_refuses_the_administrators_password_is_not_waited_for(java: Path) -> None:
    with started(ColdEngine(PASSWORD_REFUSED), java) as engine, pytest.raises(StackError, match="refuses the password"):
        engine.wait()
