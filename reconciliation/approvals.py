"""Tasks of approvers that are open although their signature is given, or their approval has ended: the engine is told once more."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.offers import approvals, deciding, open_tasks
from domain.store import UnitOfWork, leases
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.walks import PAGE, Walk
from workers.runtime.engine import Engine

SHORTEST = timedelta(seconds=1)  # until the engine is told again


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
            rows = open_tasks.needless(connection, [task.process_instance_id for task in tasks], self._grace)
            if not self._repairs.dry_run:
                rows = leases.take(connection, self.kind, rows, max(self._grace, SHORTEST))
                leases.end(connection, self.kind, ())  # those that nobody has needed for long
        return sum(alone(self.kind, self._end, row) for row in rows)

    def _end(self, row: Row[Any]) -> bool:
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
            business_key=approvals.business_key(row.tenant_id, row.id),
            action=Action.TOLD_AGAIN,
            evidence=evidence,
        )
        return self._repairs.make(repair, partial(_tell, row))


def _tell(row: Row[Any], uow: UnitOfWork) -> bool:
    return open_tasks.end_task(uow, row.id)
