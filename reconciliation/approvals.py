"""Tasks of approvers that are open although their signature is given, or their approval has ended: the engine is told once more.

What the engine keeps for an hour although it was told is left to a person, with a case.
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
        self._walk.go_on(len(tasks))
        if not tasks:
            return 0
        with housekeeping(self._database) as connection:
            rows = open_tasks.needless(connection, [task.process_instance_id for task in tasks], self._grace, self.kind)
            if not self._repairs.dry_run:
                rows = leases.take(connection, self.kind, rows, max(self._grace, TASK_KEPT.first_wait))
                leases.end(connection, self.kind, ())  # those that nobody has needed for long
        return sum(alone(self.kind, self._end, row) for row in rows)

    def _end(self, row: Row[Any]) -> bool:
        if self._is_for_a_person(row):
            return self._make(row, Action.CASE_OPENED, partial(_open_case, row))
        return self._make(row, Action.TOLD_AGAIN, partial(_tell, row))

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
