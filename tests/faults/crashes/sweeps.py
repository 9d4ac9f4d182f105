"""Crashes each sweep of reconciliation at its gates, lets another reconciler go on, and compares what is left with an undisturbed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from sqlalchemy import Engine, text

from domain.schema import METADATA
from tests.faults.crashes.mortal import COMMIT, Crash, Death, KilledError, Mortal
from tests.races.explorer.stage import Stage
from tests.support.asked_engine import AskedEngine
from tests.support.database import acting, new_database
from tests.support.held import CHECK
from tests.support.reconciling import all_are_due
from tests.support.sweep_selections import instances_of, loop_on
from tests.support.work_loads import make_open_work
from workers.local.logins import address_of
from workers.runtime.database import connect
from workers.runtime.engine import UserTask
from workers.runtime.outages import is_outage
from workers.runtime.set_aside import Pauses

ROUNDS = 10  # more than sweeps need until they find nothing to do
EVALUATING = "order"
"""The sweep that evaluates an order whose evaluation died after a change of its step."""
# What a refused try leaves, what a reconciler that works has, and findings, of which only those about orders depend on who evaluates.
APART = frozenset({"conflict_log", "reconciliation_lease", "reconciliation_finding"})
WITH_STATUS = sorted(t.name for t in METADATA.sorted_tables if "status" in t.c and t.name not in APART)
WITHOUT = sorted(t.name for t in METADATA.sorted_tables if "status" not in t.c and t.name not in APART)
COUNTS = " UNION ALL ".join(
    [
        *(f"SELECT '{name} ' || status, count(*) FROM {name} GROUP BY status" for name in WITH_STATUS),
        *(f"SELECT '{name}', count(*) FROM {name}" for name in WITHOUT),
        "SELECT 'finding ' || kind || ' ' || action, count(*) FROM reconciliation_finding WHERE kind <> 'order' GROUP BY kind, action",
    ]
)


FURTHER = (
    "UPDATE workflow_correlation SET status = 'START_UNKNOWN' WHERE status = 'REQUESTED' AND aggregate_type = 'quote_revision'",
    "UPDATE workflow_command SET status = 'DONE' WHERE kind = 'START'",
    "UPDATE workflow_correlation SET status = 'STARTED', process_instance_id = 'instance-late' WHERE aggregate_id = :order",
    "UPDATE external_callback_record SET step_id = :step WHERE processed_status = 'UNMATCHED'",
    "DELETE FROM workflow_correlation WHERE aggregate_id IN (SELECT id FROM sales_order WHERE status = 'CREATED')",
)
"""What the open work of `make_open_work` lacks: an unknown start, an instance at work, a late callback, and an order without a process."""


@dataclass(frozen=True, slots=True)
class Obeying(AskedEngine):
    """An engine whose tasks have the assignees that the product has asked for."""

    database: Engine

    def assigned_tasks(self, _: str, limit: int, first: int) -> list[UserTask]:
        query = text(
            "SELECT business_key, variables ->> 'assignee' FROM workflow_command WHERE kind = 'ASSIGN_TASK' ORDER BY position"
        )
        with self.database.connect() as connection:
            asked = {_case_of(key): assignee or None for key, assignee in connection.execute(query)}
        cases = {one.id: _case_of(one.business_key) for one in self.instances}
        tasks = super(Obeying, self).assigned_tasks(_, limit, first)
        return [replace(task, assignee=asked.get(cases[task.process_instance_id], task.assignee)) for task in tasks]


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What became of one sweep: how many gates it has, how often it crashed, and what was wrong then."""

    kind: str
    gates: int
    crashes: int
    changed: int
    wrong: tuple[str, ...]


@contextmanager
def swept_world(database_url: str, name: str) -> Iterator[Sweeping]:
    """Make a database with open work of every kind, on a server that is `open_to_tests`."""
    with new_database(database_url, name) as engine:
        load = make_open_work(engine, tenants=1)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in FURTHER:
                connection.execute(text(statement), {"order": load.late.order_id, "step": load.ready.step(CHECK).id})
        stage = Stage(engine.url.render_as_string(hide_password=False))
        try:
            stage.keep()
            yield Sweeping(engine, stage)
        finally:
            stage.close()


class Sweeping:
    """Crashes sweeps in one world, which is restored each time."""

    def __init__(self, engine: Engine, stage: Stage) -> None:
        self._engine = engine
        self._stage = stage
        self._instances = list(instances_of(engine))

    def crash(self, kind: str, most: int | None = None) -> Swept:
        """Crash a sweep at each of its gates, in every way. `most` limits the crashes to so many, spread evenly."""
        changed, calm, gates = self._play(kind)
        crashes = list(sample(list(crashes_at(gates)), most))
        wrong = [objection for crash in crashes for objection in self._objections(kind, crash, calm)]
        return Swept(kind=kind, gates=len(gates), crashes=len(crashes), changed=changed, wrong=tuple(wrong))

    def _objections(self, kind: str, crash: Crash, calm: dict[str, int]) -> Iterator[str]:
        _, left, _ = self._play(kind, crash)
        for what in sorted({*calm, *left}):
            if left.get(what, 0) != calm.get(what, 0):
                yield f"{kind}, {crash.death} gate {crash.gate}: {left.get(what, 0)} {what}, and undisturbed {calm.get(what, 0)}"

    def _play(self, kind: str, crash: Crash | None = None) -> tuple[int, dict[str, int], list[str]]:
        """Sweep once with this crash, then by another reconciler until nothing is left; returns the changes, what is left, and the gates."""
        self._stage.restore()
        with patch("reconciliation.alone._pauses", Pauses()):
            changed, gates = self._once(kind, crash)
            sweeps = self._sweeps(acting(self._engine, "reconcile"))
            for _ in range(ROUNDS):
                all_are_due(self._engine)
                again = sweeps[kind].sweep() + sweeps[EVALUATING].sweep()
                changed += again
                if not again:
                    break
        return changed, {str(what): int(number) for what, number in self._stage.look(COUNTS, {})}, gates

    def _once(self, kind: str, crash: Crash | None) -> tuple[int, list[str]]:
        mortal = Mortal(connect(address_of("reconcile", self._stage.database_url), "reconcile"), crash)
        changed = until_it_dies(mortal, lambda database: int(self._sweeps(database)[kind].sweep()))
        return changed, mortal.gates

    def _sweeps(self, database: Engine) -> Mapping[str, Any]:
        return loop_on(database, Obeying(self._instances, self._engine), dry_run=False)


def _case_of(business_key: str) -> str:
    return business_key.partition(":")[2]


def until_it_dies(mortal: Mortal, work: Callable[[Engine], int]) -> int:
    """Let something work on a session that may end; returns what it has changed, and 0 when it died. Raises what is no death."""
    try:
        return work(mortal.engine)
    except KilledError:
        return 0
    except Exception as error:
        if not is_outage(error):
            raise
        return 0
    finally:
        mortal.engine.dispose()


def crashes_at(gates: Sequence[str]) -> Iterator[Crash]:
    for number, label in enumerate(gates):
        deaths = Death if label == COMMIT else (Death.KILLED, Death.CUT)
        yield from (Crash(number, death) for death in deaths)


def sample(crashes: Sequence[Crash], most: int | None) -> Iterator[Crash]:
    if most is None or len(crashes) <= most:
        yield from crashes
    else:
        yield from (crashes[number * len(crashes) // most] for number in range(most))
