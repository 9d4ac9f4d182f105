"""Clients that work side by side: threads, in two processes where there are several, as pgbench has two threads of its own.

One interpreter uses one processor at a time; a second one makes both sides of a ratio equal, as a second pod does in production.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from threading import Barrier
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Engine

from domain.accepting import AcceptQuote
from tests.benchmarks.approved import Copies
from workers.runtime.database import connect

PROCESSES = 2

_Item = TypeVar("_Item")

Work = Callable[[Engine, UUID, AcceptQuote], None]
"""Carries out one command for a tenant; a function of a module, so that another process finds it."""


def per_second(work: Callable[[int], object], numbers: range, clients: int) -> float:
    """Let threads of this process do the work side by side; how many numbers a second."""
    begin, end = _timed(work, [numbers[rank::clients] for rank in range(clients)])
    return len(numbers) / (end - begin)


def _timed(
    work: Callable[[_Item], object], shares: Sequence[Sequence[_Item]], ready: Callable[[], object] = lambda: None
) -> tuple[float, float]:
    start = Barrier(len(shares) + 1)

    def client(share: Sequence[_Item]) -> None:
        start.wait()
        for item in share:
            work(item)

    with ThreadPoolExecutor(len(shares)) as pool:
        done = [pool.submit(client, share) for share in shares]
        ready()
        begin = time.perf_counter()
        start.wait()
        for each in done:
            each.result()
        return begin, time.perf_counter()


class Fleet:
    """Processes with a pool of connections each."""

    def __init__(self, pipes: list[Connection]) -> None:
        self._pipes = pipes

    def per_second(self, work: Work, copies: Copies, numbers: range, clients: int) -> float:
        """Let clients do the numbers side by side, spread over the processes; how many a second."""
        shares = [numbers[rank::clients] for rank in range(clients)]
        used = self._pipes[: min(clients, PROCESSES)]
        for rank, pipe in enumerate(used):
            pipe.send((work, copies, shares[rank :: len(used)]))
        for pipe in used:
            pipe.recv()  # ready
        for pipe in used:
            pipe.send("go")
        times: list[tuple[float, float]] = [pipe.recv() for pipe in used]
        # The clock is the machine's, so moments of two processes can be compared.
        return len(numbers) / (max(end for _, end in times) - min(begin for begin, _ in times))


@contextmanager
def fleet(database: Engine) -> Iterator[Fleet]:
    """Processes that are there until the block ends."""
    spawn = multiprocessing.get_context("spawn")
    url = database.url.render_as_string(hide_password=False)
    ends = [spawn.Pipe() for _ in range(PROCESSES)]
    processes = [spawn.Process(target=_serve, args=(url, there), daemon=True) for _, there in ends]
    for process in processes:
        process.start()
    pipes = [here for here, _ in ends]
    try:
        yield Fleet(pipes)
    finally:
        for pipe in pipes:
            pipe.send(None)
        for process in processes:
            process.join()


def _serve(url: str, pipe: Connection) -> None:
    while (task := pipe.recv()) is not None:
        pipe.send(_turn(url, pipe, *task))


def _turn(url: str, pipe: Connection, work: Work, copies: Copies, shares: list[range]) -> tuple[float, float]:
    commands = [[copies.acceptance(number) for number in share] for share in shares]
    # Connections of this turn, opened before the clock runs, as pgbench has them.
    engine = connect(url, "bench")
    with ExitStack() as opened:
        for _ in shares:
            opened.enter_context(engine.connect())

    def ready() -> None:
        pipe.send("ready")
        pipe.recv()

    try:
        return _timed(lambda command: work(engine, copies.tenant_id, command), commands, ready)
    finally:
        engine.dispose()
