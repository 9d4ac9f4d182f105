"""A sweep that waits for slow answers stops when its budget is used up, so that the other sweeps have their turn."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from reconciliation import rounds
from reconciliation.incidents import Incidents
from reconciliation.repairs import Repairs
from reconciliation.rounds import in_rounds, in_time
from tests.support.database import acting
from tests.support.watched import Watched, incident


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rounds, "time", clock)
    monkeypatch.setattr(rounds, "BUDGET", timedelta(seconds=5))
    return clock


def test_a_round_ends_when_the_budget_is_used_up(clock: Clock) -> None:
    """Kills: looking at the time between two rounds only, of which one may take minutes."""
    acted: list[int] = []

    def act(row: Any) -> bool:
        clock.now += 2
        acted.append(row.id)
        return True

    rows: Any = [SimpleNamespace(id=number, _asdict=lambda number=number: {"id": number}) for number in range(100)]

    assert in_rounds("test", lambda: rows, act, once=False) == 3
    assert acted == [0, 1, 2]


def test_a_sweep_without_time_acts_on_one_item(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "BUDGET", timedelta(0))

    assert list(in_time([1, 2])) == [1]


def test_cases_that_a_sweep_had_no_time_for_are_looked_at_by_the_next_one(
    clock: Clock, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [incident(), incident("evaluate-order", number=2)]
    watched.look_at_incidents(*there)
    monkeypatch.setattr(rounds, "BUDGET", timedelta(0))
    watched.engine.incidents_at.reset_mock()
    database = acting(watched.offers.engine, "reconcile")
    sweeps = Incidents(database, watched.engine, Repairs(database, dry_run=False), timedelta(0))

    for _ in range(4):
        sweeps.sweep()

    asked = [call.args[1] for call in watched.engine.incidents_at.call_args_list]
    assert (set(asked), asked[:2]) == ({one.activity_id for one in there}, asked[2:])
