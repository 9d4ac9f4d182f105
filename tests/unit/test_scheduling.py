"""The order in which `make test` hands out its files: the longest first, and only two workers start a whole stack."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support import scheduling
from tests.support.scheduling import SERVICES, STACKS, Cost, LongestFirst, costs

ROOT = Path(__file__).parents[2]


class Worker:
    """A worker that records the files that it gets."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.shutting_down = False

    def send_runtest_some(self, indexes: list[int]) -> None:
        self.given += indexes

    def shutdown(self) -> None:
        self.shutting_down = True


def handed_out(known: Mapping[str, Cost], workers: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The first files of each worker, each file with three tests."""
    monkeypatch.setattr(scheduling, "costs", lambda: known)
    config: Any = SimpleNamespace(getvalue=lambda _: ["popen"] * workers)
    scheduler = LongestFirst(config)
    tests = [f"{path}::test_{number}" for path in sorted(known) for number in range(3)]
    scheduler.workqueue = OrderedDict(
        (path, {test: False for test in tests if test.startswith(f"{path}::")}) for path in sorted(known)
    )
    team: list[Any] = [Worker() for _ in range(workers)]
    scheduler.assigned_work = {worker: {} for worker in team}
    scheduler.registered_collections = dict.fromkeys(team, tests)
    for worker in team:
        scheduler._assign_work_unit(worker)
    return [list(scheduler.assigned_work[worker]) for worker in team]


def test_each_worker_begins_with_the_longest_file_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {path: Cost(seconds, needs_stack=False) for path, seconds in {"a": 1, "b": 30, "c": 20}.items()}

    assert handed_out(known, 3, monkeypatch) == [["b"], ["c"], ["a"]]


def test_only_so_many_workers_start_a_stack_and_they_begin_with_the_files_that_need_one(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = {f"stack{number}": Cost(number, needs_stack=True) for number in range(1, STACKS + 2)}
    known = {**stack, "long": Cost(99, needs_stack=False)}

    given = handed_out(known, STACKS + 2, monkeypatch)

    assert given == [*([f"stack{number}"] for number in range(STACKS + 1, 1, -1)), ["long"], []]


def test_every_recorded_file_is_there() -> None:
    assert [path for path in costs() if not (ROOT / path).is_file()] == []


def test_every_file_that_needs_the_stack_is_recorded_so(request: pytest.FixtureRequest) -> None:
    """Otherwise a third worker would start a stack for it."""
    needing = {item.nodeid.split("::")[0] for item in request.session.items if SERVICES & set(getattr(item, "fixturenames", ()))}

    assert needing - {path for path, cost in costs().items() if cost.needs_stack} == set()
