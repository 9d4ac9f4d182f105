"""A sweep that waits for slow answers stops when its budget is used up, so that the other sweeps have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Engine, text

from reconciliation import questions, rounds
from reconciliation.incidents import Incidents
from reconciliation.repairs import Repair, Repairs
from reconciliation.rounds import in_rounds, in_time
from tests.support.asked_engine import AskedEngine
from tests.support.database import acting, new_database
from tests.support.loading import loading
from tests.support.reconciling import all_are_due
from tests.support.sweep_selections import SWEEPS, instances_of, loop_on
from tests.support.watched import Watched, incident
from tests.support.work_loads import make_open_work

BUDGET, TENANTS = 2, 10
RepairsOf: TypeAlias = Callable[[Any, timedelta], list[str]]
SEARCHES = {"step": 2, "case": 2, "deadline": 2, "orphan": 2, "incident": 2, "projection": 6}
"""Sweep -> how many searches share its budget. A sweep that is not named makes one. Each search may act on one row after the budget is used up."""
MORE_WORK = (
    "UPDATE workflow_correlation SET process_instance_id = id::text || tenant_id WHERE status = 'STARTED' AND aggregate_type = 'quote_revision'",
    "UPDATE workflow_correlation SET status = 'START_UNKNOWN' WHERE status = 'REQUESTED' AND aggregate_type = 'quote_revision'",
    "UPDATE workflow_correlation SET updated_at = updated_at - interval '1 hour' WHERE status IN ('REQUESTED', 'START_UNKNOWN')",
    "DELETE FROM workflow_correlation c USING sales_order o WHERE c.aggregate_id = o.id AND o.status = 'CREATED'",
    "UPDATE workflow_instance SET business_key = 'step:' || tenant_id || ':' || subject_id WHERE business_key LIKE 'step:%'",
    "UPDATE external_callback_record r SET step_id = s.id FROM fulfillment_step s WHERE s.tenant_id = r.tenant_id AND r.processed_status = 'UNMATCHED'",
)
"""What the open work lacks in most tenants: instances at work, unknown starts, orders without a process, called processes, and late callbacks."""
WITHOUT_REPAIRS = {"audit", "gauges", "finding"}
"""The first two look at the next page when it is time to; the third is tested in tests/integration/test_open_findings.py."""

WALKS = {"callback", "called", "duplicate", "incident"}
"""They take nothing: the next page begins with what a sweep had no time for."""


class Clock:
    """A clock that moves only when the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (rounds, questions):
        monkeypatch.setattr(module, "time", clock)
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
    given_back: list[Any] = []

    assert in_rounds("test", lambda: rows, act, given_back.extend, once=False) == 3
    assert (acted, given_back) == ([0, 1, 2], rows[3:])


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


@dataclass(frozen=True, slots=True)
class OpenWork:
    """A database with open work of every kind in each of the tenants, and an engine that knows the instances."""

    database: Engine
    asked: AskedEngine

    def sweep(self, kind: str, *, dry_run: bool = True) -> Any:
        return loop_on(acting(self.database, "reconcile"), self.asked, dry_run=dry_run)[kind]


@pytest.fixture(scope="module")
def open_work(database: str) -> Iterator[OpenWork]:
    with new_database(database, "q2o_budgets") as engine:
        make_open_work(engine, TENANTS)
        with loading(engine) as connection:
            for statement in MORE_WORK:
                connection.execute(text(statement))
        yield OpenWork(engine, AskedEngine(list(instances_of(engine))))


@pytest.fixture
def repairs_of(open_work: OpenWork, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> RepairsOf:
    """Makes a sweep with this budget; each of its repairs waits for a lock for a second. Returns what it has tried to repair."""
    tried: list[str] = []

    def make(_: Repairs, repair: Repair, *__: object) -> bool:
        clock.now += 1
        tried.append(f"{repair.tenant_id} {repair.business_key}")
        return False

    def repairs(sweep: Any, budget: timedelta) -> list[str]:
        monkeypatch.setattr(rounds, "BUDGET", budget)
        clock.now = 0
        tried.clear()
        sweep.sweep()
        return tried.copy()

    monkeypatch.setattr(Repairs, "make", make)
    monkeypatch.setattr(rounds, "ROUND", 1_000)  # a dry run sees one round
    all_are_due(open_work.database)
    return repairs


@pytest.mark.parametrize("kind", [kind for kind in SWEEPS if kind not in WITHOUT_REPAIRS])
def test_every_sweep_of_the_loop_ends_when_its_budget_is_used_up(open_work: OpenWork, repairs_of: RepairsOf, kind: str) -> None:
    """Kills: 200 rows that are locked for five seconds each, for which no other sweep is made for a quarter of an hour."""
    most = BUDGET + SEARCHES.get(kind, 1) - 1
    short = repairs_of(open_work.sweep(kind), timedelta(seconds=BUDGET))

    assert len(short) <= most < len(repairs_of(open_work.sweep(kind), timedelta(hours=1)))


@pytest.mark.parametrize("kind", [kind for kind in SWEEPS if kind not in WITHOUT_REPAIRS | WALKS])
def test_the_next_sweeps_find_at_once_what_a_sweep_had_no_time_for(open_work: OpenWork, repairs_of: RepairsOf, kind: str) -> None:
    """Kills: leaving it under its lease, where no reconciler finds it for half a minute."""
    in_one_sweep = set(repairs_of(open_work.sweep(kind), timedelta(hours=1)))
    sweep = open_work.sweep(kind, dry_run=False)

    in_many = {each for _ in range(2 * len(in_one_sweep)) for each in repairs_of(sweep, timedelta(seconds=1))}

    assert in_many >= in_one_sweep
