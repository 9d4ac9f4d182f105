"""Finds tasks of approvers that are still open after the signature was given or the approval ended, and tells the engine again.

A task that the engine still keeps after an hour of this gets a case, so that a person ends it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import given_up
from domain.offers import approvals, deciding, open_tasks
from domain.retry_rules import TASK_KEPT
from domain.store import Cause, UnitOfWork, leases
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.walks import PAGE, Walk
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine

WHAT, KEPT = "end the task of an approver", "the task is still there after the engine was told"


class Approvals:
    """`grace`: how long the normal path may take from the end of a requirement to the end of its task."""

    kind = "approval"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._grace = grace
        self._walk = Walk()

    def sweep(self) -> int:
        """Look at one page of the approvers' tasks; returns how many the engine is told about. Raises EngineError."""
        tasks = self._engine.open_tasks(deciding.TASK, self._walk.first, PAGE)
        with housekeeping(self._database) as connection:
            asking = [task.process_instance_id for task in tasks]
            rows = open_tasks.needless(connection, asking, self._grace, self.kind) if asking else ()
            if not self._repairs.dry_run:
                leases.end(connection, self.kind, {})  # those that nobody has needed for long
        needless = {row.process_instance_id: row for row in rows}
        found = (needless.get(task.process_instance_id) for task in self._walk.through(tasks))
        return sum(alone(self.kind, self._end, row) for row in found if row is not None)

    def _end(self, row: Row[Any]) -> bool:
        if not self._is_due(row):
            return False
        if self._is_for_a_person(row):
            return self._make(row, Action.CASE_OPENED, partial(_open_case, row))
        return self._make(row, Action.TOLD_AGAIN, partial(_tell, row))

    def _is_due(self, row: Row[Any]) -> bool:
        """Whether the engine may be told again: the last time is long ago. Counts this time."""
        if self._repairs.dry_run:
            return True
        with housekeeping(self._database) as connection:
            return bool(leases.take(connection, self.kind, [row], max(self._grace, TASK_KEPT.first_wait)))

    def _is_for_a_person(self, row: Row[Any]) -> bool:
        """Whether the engine was told for the whole time, and no person has just had it told again."""
        if row.told_since is None or datetime.now(UTC) - row.told_since < TASK_KEPT.time:
            return False
        with unit_of_work(self._database, Cause(tenant_id=row.tenant_id, actor="reconciliation", command="look-at-task")) as uow:
            return not given_up.was_decided_within(uow, _key_of(row), TASK_KEPT.time)

    def _make(self, row: Row[Any], action: Action, command: Callable[[UnitOfWork], bool]) -> bool:
        evidence = {
            "requirementStatus": row.status,
            "requestStatus": row.request_status,
            "processInstanceId": row.process_instance_id,
        }
        repair = Repair(
            kind=self.kind,
            tenant_id=row.tenant_id,
            aggregate_type="approval_requirement",
            aggregate_id=row.id,
            business_key=_key_of(row),
            action=action,
            evidence=evidence,
        )
        return self._repairs.make(repair, command)


def _key_of(row: Row[Any]) -> str:
    return approvals.business_key(row.tenant_id, row.id)


def _open_case(row: Row[Any], uow: UnitOfWork) -> bool:
    key, told = _key_of(row), {"tried": WHAT, "times": row.times_told, "since": row.told_since, "last_reason": KEPT}
    if given_up.has_open_case(uow, key):
        return False
    given_up.open_case(
        uow, key, f"The engine keeps the approver's task of {key}, which nobody needs any more: end it in Cockpit.", told
    )
    return True


def _tell(row: Row[Any], uow: UnitOfWork) -> bool:
    return open_tasks.end_task(uow, row.id)
