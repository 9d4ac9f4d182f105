"""What workflow commands ask of the engine besides a start. Each may be repeated, and changes nothing when it is already done.

What is done to a user task is done to every open task of that business key: if there are several, they ask the same question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row

from domain.store.facts import WorkflowCommandKind
from workers.runtime.engine import Engine


def _correlate(engine: Engine, row: Row[Any]) -> bool:
    return engine.correlate(row.tenant_id, row.name, row.business_key, row.variables)


def _complete_task(engine: Engine, row: Row[Any]) -> bool:
    completed = [engine.complete_user_task(task_id, row.variables) for task_id in _tasks(engine, row)]
    return any(completed)  # one that is gone has been completed by somebody else


def _assign_task(engine: Engine, row: Row[Any]) -> bool:
    assigned = [engine.assign_user_task(task_id, row.variables["assignee"] or None) for task_id in _tasks(engine, row)]
    return any(assigned)


def _tasks(engine: Engine, row: Row[Any]) -> list[str]:
    return [task.id for task in engine.user_tasks(row.business_key) if task.definition_key == row.name]


def _retry_task(engine: Engine, row: Row[Any]) -> bool:
    for incident in engine.incidents_at(row.variables["processInstanceId"], row.name):
        engine.retry(incident)
    return True  # without an incident, somebody was faster


DELIVERIES: Mapping[str, Callable[[Engine, Row[Any]], bool]] = {
    WorkflowCommandKind.CORRELATE: _correlate,
    WorkflowCommandKind.COMPLETE_TASK: _complete_task,
    WorkflowCommandKind.ASSIGN_TASK: _assign_task,
    WorkflowCommandKind.RETRY_TASK: _retry_task,
}
"""How each kind of command is carried out; returns whether it is done."""
