"""Makes the owner of a fallout case and the assignee of its task in Tasklist the same person (docs/domain.md#reconcilers).

The rule it keeps: the domain's owner counts. When somebody takes a task in Tasklist, the case is claimed for them, by the same command and
with the same authority as over HTTP. When another person was faster, the task goes to that person. A task that somebody was given by another
person is given back: nobody owns a case without having asked for it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.fallout import cases, casework
from domain.fallout.cases import FalloutStatus
from domain.fallout.casework import CaseCommand, QueueNotYours
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from workers.runtime.engine import Engine, UserTask

LIMIT = 200  # tasks compared per sweep


class Assignees:
    """Compares the assignee of every assigned task of a case with the case's owner."""

    kind = "assignee"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs

    def sweep(self) -> int:
        """Make owner and assignee agree; returns how many did not. Raises EngineError."""
        tasks = {task.process_instance_id: task for task in self._engine.assigned_tasks(cases.USER_TASK, LIMIT)}
        if not tasks:
            return 0
        with housekeeping(self._database) as connection:
            rows = casework.cases_of_processes(connection, tasks)
        return sum(alone(self.kind, self._agree, row, tasks[row.process_instance_id]) for row in rows)

    def _agree(self, row: Row[Any], task: UserTask) -> bool:
        if row.owner_user_id == task.assignee:
            return False
        if row.status != FalloutStatus.OPEN or self._engine.who_assigned(task.id) != task.assignee:
            return self._repairs.make(_repair(row, task, Action.ASSIGNED), partial(_assign, row))
        roles = self._engine.groups_of(str(task.assignee))
        command = CaseCommand(case_id=row.id, expected_version=row.version, person=str(task.assignee), roles=roles)
        return self._repairs.make(_repair(row, task, Action.CLAIMED), partial(_claim, command))


def _claim(command: CaseCommand, uow: UnitOfWork) -> bool:
    try:
        casework.claim(uow, command, has_task=True)
    except QueueNotYours:
        casework.assign(uow, uow.read(cases.FalloutCase, command.case_id))
    return True


def _assign(row: Row[Any], uow: UnitOfWork) -> bool:
    case = uow.read(cases.FalloutCase, row.id, lock=True)
    if case.version != row.version:
        return False
    casework.assign(uow, case)
    return True


def _repair(row: Row[Any], task: UserTask, action: Action) -> Repair:
    evidence = {"owner": row.owner_user_id, "assignee": task.assignee, "taskId": task.id}
    return Repair.of_case(Assignees.kind, action, row.tenant_id, row.id, evidence)
