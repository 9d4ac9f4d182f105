"""Everything that selects rows: the sweeps of the loop, and claims, walks and commands, each with the process that makes it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from math import inf
from typing import Any, cast

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from domain import accepting, archives, rebuilding
from domain.auditing.excerpts import Excerpts
from domain.delivery import given_up, orders, starting, unanswered
from domain.delivery import reading as delivery_reading
from domain.delivery.starting import StartStep
from domain.offers import reading as offers_reading
from domain.projections.tables import Projection
from domain.retaining import dossiers, kinds, walks
from domain.retaining.dossiers import IDS_OF_SEVERAL, PARTS, Dossier
from domain.retaining.kinds import KINDS, Kind
from domain.store import Cause, UnitOfWork, outbox, unit_of_work
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from reconciliation import alone, rounds
from reconciliation.audits import Audits
from reconciliation.loop import Intervals, Reconciler
from tests.support.asked_engine import AskedEngine
from tests.support.database import acting
from tests.support.held import CHECK
from tests.support.one_transaction import offer_and_deliver
from tests.support.reconciling import Scripted, silence
from tests.support.sweep_costs import Costs, measuring
from tests.support.work_loads import UNATTENDED, Load
from workers.runtime.engine import Engine as Camunda
from workers.runtime.engine_history import EngineInstance
from workers.runtime.set_aside import Pauses

NONE, ONE_DAY, AGES = timedelta(0), timedelta(days=1), timedelta(days=10_000)
LEASE, PAGE, CLAIMED = timedelta(seconds=30), 5, 100
TRIES = 3  # what seems to read more than before is measured so often: writing costs more at one time than at another
Select = Callable[[Connection, Load], Any]
AT_ONCE = Intervals(
    start_safe_interval=NONE,
    attempt_stale_after=NONE,
    request_safe_interval=NONE,
    evaluation_grace=NONE,
    case_grace=NONE,
    gate_grace=NONE,
    done_grace=NONE,
    projection_limit=NONE,
    audit=AGES,
)
EXCERPTS = Excerpts(IDS_OF_SEVERAL, PARTS)
UNANSWERED = "unanswered steps"
ELSEWHERE: Mapping[str, Collection[str]] = {
    "audit": ("the next quotes to audit", "an audit of quotes"),
    "projection": tuple(f"changes of {each}" for each in Projection),
}
"""Sweep -> the selections that it makes only once in a long time. They are measured by themselves."""


def _changes(view: Projection) -> Select:
    return lambda connection, _: rebuilding.behind(connection, view, None, PAGE, NONE)


def _deletion(kind: Kind, age: timedelta) -> Select:
    return lambda connection, _: kinds.delete(connection, kind, age, PAGE)


def _rebuild(view: Projection) -> Select:
    return lambda connection, load: rebuilding.rebuild_batch(connection, view, rebuilding.START, PAGE, load.settled)


def _oldest(kind: Kind) -> Select:
    return lambda connection, _: kinds.oldest(connection, kind)


def _finished(walk: str, age: timedelta) -> Select:
    return lambda connection, _: walks.finished(connection, walk, age, PAGE)


def _dossiers(load: Load, number: int) -> list[Dossier]:
    return [Dossier(load.offers.tenant_id, quote_id) for quote_id in load.quotes(number)]


WALKS: Mapping[str, tuple[str, Select]] = {
    **{f"changes of {view}": ("reconcile", _changes(view)) for view in Projection},
    **{f"a rebuild of {view}": ("reconcile", _rebuild(view)) for view in Projection},
    **{f"old {kind.name}": ("retain", _deletion(kind, ONE_DAY)) for kind in KINDS},
    **{f"too young {kind.name}": ("retain", _deletion(kind, AGES)) for kind in KINDS},
    **{f"oldest of {kind.name}": ("retain", _oldest(kind)) for kind in KINDS},
    **{f"finished {walk}": ("retain", _finished(walk, ONE_DAY)) for walk in walks.WALKS},
    **{f"too young {walk}": ("retain", _finished(walk, AGES)) for walk in walks.WALKS},
}
"""Selections that go through a whole table, a page at a time, and selections that find nothing."""
SELECTIONS: Mapping[str, tuple[str, Select]] = {
    UNANSWERED: ("reconcile", lambda connection, _: unanswered.unanswered_steps(connection, CLAIMED, None, silence())),
    "commands for the engine": ("dispatch", lambda connection, _: requests.claim(connection, CLAIMED, LEASE)),
    "events for Kafka": ("relay", lambda connection, _: outbox.claim(connection, CLAIMED, LEASE)),
    "events that wait": ("relay", lambda connection, _: outbox.backlog(connection)),
    "the next quotes to audit": ("reconcile", lambda connection, _: _audits(connection)._next(connection)),
    "an audit of quotes": (
        "reconcile",
        lambda connection, load: list(EXCERPTS.violations(connection, load.offers.tenant_id, load.quotes(PAGE))),
    ),
    "unsettled archive files": ("retain", lambda connection, _: archives.unsettled(connection)),
    "the oldest finished business": ("retain", lambda connection, _: dossiers.oldest(connection)),
    "a dossier": (
        "retain",
        lambda connection, load: list(dossiers.read(connection, _dossiers(load, 1)[0])),
    ),
    "whether a dossier is finished": (
        "retain",
        lambda connection, load: walks.is_finished(connection, _dossiers(load, 1)[0], ONE_DAY),
    ),
    "the rows of dossiers": (
        "retain",
        lambda connection, load: dossiers.count(connection, load.offers.tenant_id, _dossiers(load, CLAIMED)),
    ),
    **WALKS,
}
COMMANDS: Mapping[str, tuple[str | None, Callable[[UnitOfWork, Load], Any]]] = {
    "accept a quote": ("http", lambda uow, load: accepting.accept(uow, load.offers.acceptance(load.approved))),
    "read a quote": ("http", lambda uow, load: offers_reading.quote(uow, load.approved.quote_id)),
    "read an order": ("http", lambda uow, load: delivery_reading.order(uow, load.late.order_id)),
    "start a step": ("tasks", lambda uow, load: starting.start_step(uow, _start(load))),
    "ask whether a person has decided": (
        "tasks",
        lambda uow, load: given_up.was_decided_within(uow, orders.business_key(uow.tenant_id, load.late.order_id), AGES),
    ),
    "every command of a quote and its order": (None, lambda uow, load: offer_and_deliver(uow, load.offers)),
}


class Undone(Exception):
    """Rolls a measured command back."""


def loop_on(engine: Engine, doors: AskedEngine, *, dry_run: bool = True) -> Mapping[str, Any]:
    """The sweeps of the loop by their kinds; by default they change nothing. The provider knows no request."""
    loop = Reconciler(engine, cast("Camunda", doors), {"sandbox": Scripted(lambda: None)}, AT_ONCE, dry_run=dry_run)
    return {sweep.kind: sweep for sweep in loop._sweeps}


SWEEPS = tuple(loop_on(create_engine("postgresql+psycopg://"), AskedEngine(())))


def sweeps_of(engine: Engine) -> Mapping[str, Any]:
    """The sweeps of a loop that has completed its first round."""
    sweeps = loop_on(acting(engine, "reconcile"), AskedEngine(list(instances_of(engine))))
    with unhurried():
        for sweep in sweeps.values():
            sweep.sweep()
    return sweeps


def costs_of(engine: Engine, load: Load, sweeps: Mapping[str, Any]) -> Mapping[str, Callable[[], Costs]]:
    """Return a function for each sweep, selection and command that measures how much it reads.

    A sweep has all the time it needs: what it has no time for on a slow machine would not be measured.
    """
    sweeps["gauges"]._asked_at = -inf
    with unhurried():
        for _ in range(3):  # it looks once at every change
            sweeps["projection"].sweep()
    return {
        **{kind: partial(_cost_of_sweep, engine, sweep) for kind, sweep in sweeps.items()},
        **{name: partial(cost_of_selection, engine, load, name) for name in SELECTIONS},
        **{name: partial(_cost_of_command, engine, load, name) for name in COMMANDS},
    }


def measured_again(measure: Callable[[], Costs], before: Costs, limit: float) -> Costs:
    """Measure what is read, and measure again while it seems to be more than before: the lowest cost counts."""
    costs = measure()
    for _ in range(TRIES - 1):
        if costs.grown(limit, before):
            costs.keep_least(measure())
    return costs


def cost_of_selection(engine: Engine, load: Load, name: str) -> Costs:
    """What a selection reads, under the rights of its process; nothing of it stays."""
    process, select = SELECTIONS[name]
    database = acting(engine, process)
    with measuring(database) as costs, suppress(Undone), housekeeping(database) as connection:
        select(connection, load)
        raise Undone
    return costs


def _cost_of_sweep(engine: Engine, sweep: Any) -> Costs:
    with measuring(acting(engine, "reconcile")) as costs, unhurried():
        sweep.sweep()
    return costs


@contextmanager
def unhurried() -> Iterator[None]:
    """Give sweeps time for every row, and fail when one cannot act on a row: it leaves that row alone for a while, and reads less."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds, "BUDGET", timedelta(hours=1))
        patch.setattr(alone, "_pauses", pauses := Pauses())
        yield
    assert not pauses._pauses


def _cost_of_command(engine: Engine, load: Load, name: str) -> Costs:
    process, command = COMMANDS[name]
    database = acting(engine, process) if process else engine
    cause = Cause(tenant_id=load.offers.tenant_id, actor="sally", command="measure")
    with measuring(database) as costs, suppress(Undone), unit_of_work(database, cause) as uow:
        command(uow, load)
        raise Undone
    return costs


def _start(load: Load) -> StartStep:
    step = load.ready.step(CHECK)
    return StartStep(step_id=step.id, expected_version=step.version, worker_id="worker-1", external_task_id=None)


def _audits(connection: Connection) -> Audits:
    return Audits(connection.engine, NONE, page=PAGE)


def instances_of(engine: Engine) -> Iterator[EngineInstance]:
    known = text(
        "SELECT process_instance_id AS id, business_key, tenant_id FROM workflow_correlation WHERE status IN ('STARTED', 'LOST') "
        "UNION SELECT process_instance_id, business_key, tenant_id FROM workflow_instance ORDER BY 1"
    )
    with engine.connect() as connection:
        for row in connection.execute(known):
            tenant_id = str(row.tenant_id)
            called = {"caller_id": row.id, "root_id": row.id, "tenant_id": tenant_id}
            state = "COMPLETED" if row.id == UNATTENDED else "ACTIVE"
            yield EngineInstance(id=row.id, business_key=row.business_key, definition_key="quote-approval", state=state, **called)
