"""Makes the owner of a fallout case and the assignee of its task in Tasklist the same person (docs/domain.md#reconcilers).

The rule it keeps: the domain's owner counts. When somebody takes a task in Tasklist, the case is claimed for them, by the same command and
with the same authority as over HTTP. When another person was faster, the task goes to that person. A task that somebody was given by another
person is given back: nobody owns a case without having asked for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain.fallout import cases, casework
from domain.fallout.cases import FalloutStatus
from domain.fallout.casework import CaseCommand, QueueNotYours
from domain.store import UnitOfWork
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, budget_ends, in_time
from reconciliation.walks import PAGE, Walk
from workers.runtime.engine import Engine, UserTask

PAGES = 5  # requests to the engine of one sweep; the next sweep goes on behind them


class Assignees:
    """Compares the assignee of every assigned task of a case with the case's owner."""

    kind = "assignee"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs) -> None:
        self._found = Leased(database, self.kind, dry_run=repairs.dry_run)
        self._engine = engine
        self._repairs = repairs
        self._walk = Walk()

    def sweep(self) -> int:
        """Make owner and assignee agree; returns how many did not. Raises EngineError."""
        until, changed = budget_ends(), 0
        for _ in in_time(range(PAGES), until):
            changed += self._look_at(self._engine.assigned_tasks(cases.USER_TASK, PAGE, self._walk.first), until)
            if not self._walk.first:
                break
        return changed

    def _look_at(self, page: Sequence[UserTask], until: float) -> int:
        tasks = {task.process_instance_id: task for task in page}
        rows = defaultdict(list)
        for row in self._found.take(partial(_cases_differing, tasks)):
            rows[row.process_instance_id].append(row)
        differing = (row for task in self._walk.through(page, until) for row in rows[task.process_instance_id])
        return self._found.act_on(differing, partial(self._agree, tasks=tasks), until)

    def _agree(self, row: Row[Any], tasks: Mapping[str, UserTask]) -> bool:
        task = tasks[row.process_instance_id]
        if row.status != FalloutStatus.OPEN or self._engine.who_assigned(task.id) != task.assignee:
            return self._repairs.make(_repair(row, task, Action.ASSIGNED), partial(_assign, row))
        roles = self._engine.groups_of(str(task.assignee))
        command = CaseCommand(case_id=row.id, expected_version=row.version, person=str(task.assignee), roles=roles)
        return self._repairs.make(_repair(row, task, Action.CLAIMED), partial(_claim, command))


def _cases_differing(tasks: Mapping[str, UserTask], connection: Connection, _: int) -> list[Row[Any]]:
    rows = casework.cases_of_processes(connection, tasks) if tasks else []
    return [row for row in rows if row.owner_user_id != tasks[row.process_instance_id].assignee]


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
