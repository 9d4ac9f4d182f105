"""Several explorers in parallel, each in its own process and on its own database, because one explorer plays one schedule at a time."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.queues import Queue
from time import monotonic
from typing import Any

from tests.races.explorer.exploring import Exploration, Explorer
from tests.races.explorer.stage import stage_on
from tests.races.explorer.worlds import WORLDS

# Seconds between two reports of an explorer on one world.
REPORT_EVERY = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How many schedules of a world have been played so far."""

    name: str
    schedules: int


class BrokenExplorerError(Exception):
    """An explorer cannot go on; the text is its traceback."""


def explore(database_url: str, plan: Sequence[tuple[str, int | None]], jobs: int) -> Iterator[Progress | Exploration]:
    """Explore worlds, each within its bound; yields progress and results as they come. Raises BrokenExplorerError."""
    context = get_context("spawn")
    tasks: Queue[Any] = context.Queue()
    reports: Queue[Any] = context.Queue()
    for task in [*plan, *[None] * jobs]:
        tasks.put(task)
    crew = [
        context.Process(target=_work, args=(database_url, f"q2o_explorer_{number}", tasks, reports), daemon=True)
        for number in range(jobs)
    ]
    for member in crew:
        member.start()
    left = len(plan)
    while left:
        report = reports.get()
        if isinstance(report, BrokenExplorerError):
            raise report
        left -= isinstance(report, Exploration)
        yield report
    for member in crew:
        member.join()


def _work(database_url: str, name: str, tasks: Queue[Any], reports: Queue[Any]) -> None:
    try:
        # The objects loaded so far live to the end: freezing them spares the garbage collector a scan for each schedule.
        gc.freeze()
        with stage_on(database_url, name) as stage:
            explorer = Explorer(stage)
            while (task := tasks.get()) is not None:
                name, bound = task
                _explore(explorer, name, bound, reports)
            explorer.close()
    except BaseException:
        reports.put(BrokenExplorerError(traceback.format_exc()))
        raise


def _explore(explorer: Explorer, name: str, bound: int | None, reports: Queue[Any]) -> None:
    last = monotonic()

    def tell(found: Exploration) -> None:
        nonlocal last
        if monotonic() - last > REPORT_EVERY:
            last = monotonic()
            reports.put(Progress(name, found.schedules))

    reports.put(explorer.explore(WORLDS[name], bound, tells=tell))
