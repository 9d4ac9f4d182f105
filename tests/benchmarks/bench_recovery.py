"""How fast commands are again when a fault has ended: the rate 30 s later beside the rate before (P12).

Clients accept quotes over HTTP all the time and repeat under the same key what was not answered, as production does. The edge runs in a process
of its own, PostgreSQL on a server of its own. "no fault" is the same course without one: the machine itself makes the rate rise and fall, so
each figure is a share of what that course keeps of its rate, the faults take turns, and the median of the rounds counts.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from itertools import count
from pathlib import Path
from threading import Event, Lock, Thread
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from tests.benchmarks.approved import Approved
from tests.benchmarks.edge import EdgeProcess
from tests.benchmarks.figures import Figure, figure, ratio, tell
from tests.benchmarks.http_client import Client
from tests.support.database import new_database
from tests.support.services import local_stack, open_to_tests
from workers.local.stack import LocalStack

ROUNDS = 3
CLIENTS = 4
SUPPLY = 20_000  # more than the clients accept in one course
BEFORE, FAULT, LATER, AFTER = 10.0, 10.0, 30.0, 10.0  # seconds: measured, faulty, left alone, measured
PAUSE = 0.02  # of a client that got no answer
GOAL = 0.98
END_SESSIONS = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'q2o http %'")


class Scene:
    """An edge, its clients, and what faults need."""

    def __init__(self, server: LocalStack, database: Engine, directory: Path) -> None:
        self.server = server
        self.database = database
        self._directory = directory
        self._approved = Approved(database)
        self._edge = EdgeProcess(database, directory, observed=True)
        self._client = Client(self._approved, self._edge.address)
        self._done: list[float] = []
        self._lock = Lock()

    def replace_edge(self) -> None:
        """Kill the edge; another one serves in its place."""
        self._edge.kill()
        self._edge = EdgeProcess(self.database, self._directory, observed=True)
        self._client.address = self._edge.address

    def close(self) -> None:
        self._client.close()
        self._edge.stop()

    @contextmanager
    def under_load(self) -> Iterator[None]:
        """Let clients accept quotes until the block ends."""
        numbers, stop = iter(self._approved.supply(SUPPLY)), Event()
        clients = [Thread(target=self._accept, args=(numbers, stop)) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            stop.set()
            for client in clients:
                client.join()

    def rate_of(self, seconds: float) -> float:
        """Acceptances a second in this time from now on."""
        begin = time.monotonic()
        time.sleep(seconds)
        end = time.monotonic()
        return sum(begin <= each < end for each in self._done) / (end - begin)

    def _accept(self, numbers: Iterator[int], stop: Event) -> None:
        while not stop.is_set():
            with self._lock:
                number = next(numbers)
            key = str(uuid4())
            while not stop.is_set() and not self._is_accepted(number, key):
                time.sleep(PAUSE)

    def _is_accepted(self, number: int, key: str) -> bool:
        try:
            status, told = self._client.send(number, key)
        except (OSError, HTTPException):
            return False
        assert status in {201, 503}, told
        if status == 201:
            self._done.append(time.monotonic())
        return status == 201


def no_fault(_: Scene) -> None:
    time.sleep(FAULT)


def postgres_restart(scene: Scene) -> None:
    scene.server.postgres.kill()
    time.sleep(FAULT)
    scene.server.postgres.restart()


def checkpoint(scene: Scene) -> None:
    """From now on PostgreSQL writes each page whole at its first change, as it does after a restart: this part of its cost is measured alone."""
    time.sleep(FAULT)
    with scene.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))


def backend_kill(scene: Scene) -> None:
    """Five times a second."""
    for _ in _times(0.2):
        with scene.database.begin() as connection:
            connection.execute(END_SESSIONS)


def pool_exhaustion(scene: Scene) -> None:
    """Every session of the pool waits for one lock."""
    with scene.database.begin() as connection:
        connection.execute(text("LOCK TABLE quote IN ACCESS EXCLUSIVE MODE"))
        time.sleep(FAULT)


def crash(scene: Scene) -> None:
    scene.replace_edge()


def repeated_kills(scene: Scene) -> None:
    for _ in _times(2.0):
        scene.replace_edge()


FAULTS: Mapping[str, Callable[[Scene], None]] = {
    each.__name__: each for each in (no_fault, checkpoint, postgres_restart, backend_kill, pool_exhaustion, crash, repeated_kills)
}


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_the_rate_after_a_fault_is_measured_beside_the_rate_before(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    kept: dict[str, list[float]] = defaultdict(list)
    with local_stack(tmp_path_factory, {"postgres"}) as server, new_database(open_to_tests(server), "recovery") as database:
        scene = Scene(server, database, tmp_path)
        try:
            for _ in range(ROUNDS):
                for name, fault in FAULTS.items():
                    kept[name].append(_kept(scene, fault))
        finally:
            scene.close()
    tell(_figures(kept))


def _kept(scene: Scene, fault: Callable[[Scene], None]) -> float:
    """The rate after a fault, as a share of the rate before."""
    with scene.under_load():
        time.sleep(BEFORE)  # the clients warm up
        before = scene.rate_of(BEFORE)
        fault(scene)
        time.sleep(LATER)
        return scene.rate_of(AFTER) / before


def _figures(kept: Mapping[str, list[float]]) -> Iterator[Figure]:
    untouched = kept[no_fault.__name__]
    for name, shares in kept.items():
        what = f"accept over HTTP 30 s after {name.replace('_', ' ')}"
        yield figure(f"{what} / before", shares, "ratio")
        if shares is not untouched:
            yield ratio(f"P12 {what} / the same without a fault (goal {GOAL})", shares, untouched)


def _times(seconds: float) -> Iterator[int]:
    """Count while the fault lasts, once in this many seconds."""
    end = time.monotonic() + FAULT
    for number in count():
        if time.monotonic() >= end:
            return
        yield number
        time.sleep(seconds)
