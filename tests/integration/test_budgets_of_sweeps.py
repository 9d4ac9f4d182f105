"""A sweep that waits for slow answers stops when its budget is used up, so that the other sweeps have their turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import pytest
from sqlalchemy import Connection, Engine, text

from reconciliation import questions, rounds
from reconciliation.incidents import Incidents
from reconciliation.repairs import Repair, Repairs
from reconciliation.rounds import Taking, in_time
from tests.support.asked_engine import AskedEngine
from tests.support.database import acting, new_database
from tests.support.fulfilment import Fulfilment
from tests.support.loading import loading
from tests.support.offers import Offers
from tests.support.reconciling import all_are_due
from tests.support.sweep_selections import SWEEPS, instances_of, loop_on
from tests.support.watched import FIRST, SECOND, Watched, incident, order_key
from tests.support.work_loads import make_open_work
from workers.runtime.set_aside import Pauses

BUDGET, TENANTS = 2, 10
RUNNING, DELETED = "ACTIVE", "EXTERNALLY_TERMINATED"
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


class Found(Taking[Any]):
    """Takes whatever is found, and keeps what it gives back."""

    def __init__(self) -> None:
        super().__init__(cast("Engine", None), "test", dry_run=False)
        self.given_back: list[Any] = []

    def take(self, *rows: Any) -> Sequence[Any]:
        self._held |= {self._key_of(row): row for row in rows}
        return rows

    def _give_back(self) -> None:
        self.given_back += self._held.values()

    def _key_of(self, row: Any) -> Any:
        return row.id

    def _free(self, connection: Connection, held: Mapping[Any, Any]) -> None: ...

    def _settle(self, row: Any, proof: Any) -> None: ...


ROWS: list[Any] = [SimpleNamespace(id=number, _asdict=lambda number=number: {"id": number}) for number in range(100)]


def test_a_round_ends_when_the_budget_is_used_up_and_gives_the_others_back(clock: Clock) -> None:
    """Kills: looking at the time between two rounds only, of which one may take minutes."""
    acted: list[int] = []

    def act(row: Any) -> bool:
        clock.now += 2
        acted.append(row.id)
        return True

    found = Found()

    assert found.rounds(lambda: found.take(*ROWS), act) == 3
    assert (acted, found.given_back) == ([0, 1, 2], ROWS[3:])


def test_a_row_that_is_left_alone_for_a_while_is_given_back_at_the_end(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: keeping a row from a reconciler that has had no trouble with it."""
    monkeypatch.setattr("reconciliation.alone._pauses", Pauses())

    def act(row: Any) -> bool:
        if row is ROWS[0]:
            raise RuntimeError("this row fails")
        return False

    found = Found()
    found.act_on(found.take(*ROWS[:2]), act)

    found.act_on(found.take(*ROWS[:2]), act)

    assert found.given_back == ROWS[:1]


def test_a_sweep_without_time_acts_on_one_item(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "BUDGET", timedelta(0))

    assert list(in_time([1, 2])) == [1]


class TestASweepOfInstancesWithoutTime:
    """Two instances are due, and the sweep has time to act on one row."""

    @pytest.fixture
    def two(self, offers: Offers, monkeypatch: pytest.MonkeyPatch) -> Watched:
        for instance_id in (FIRST, SECOND):
            two = Watched.of(offers, order_key(offers, Fulfilment.running(offers).order_id), instance_id)
        two.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
        monkeypatch.setattr(rounds, "BUDGET", timedelta(0))
        return two

    def test_leaves_an_instance_that_is_gone_due_at_once(self, two: Watched) -> None:
        assert two.sweep(DELETED) == 1
        assert two.due_instances() == 1

    def test_looks_at_all_that_run(self, two: Watched) -> None:
        two.sweep(RUNNING)

        assert two.due_instances(within=rounds.LEASE) == 0

    def test_waits_for_no_command_that_has_locked_one_that_runs(self, two: Watched) -> None:
        with two.offers.engine.connect() as command:  # never committed
            lock = text("SELECT FROM workflow_correlation WHERE process_instance_id = :id FOR UPDATE")
            two.sweep(RUNNING, meanwhile=lambda: command.execute(lock, {"id": FIRST}))

        assert two.due_instances(within=rounds.LEASE) == 1


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
    """Kills: keeping the lease on such rows, so that no reconciler finds them for half a minute."""
    in_one_sweep = set(repairs_of(open_work.sweep(kind), timedelta(hours=1)))
    sweep = open_work.sweep(kind, dry_run=False)

    in_many = {each for _ in range(2 * len(in_one_sweep)) for each in repairs_of(sweep, timedelta(seconds=1))}

    assert in_many >= in_one_sweep
