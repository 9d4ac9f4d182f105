"""A workflow command as a dispatcher has claimed it: who acts, what the log says, and how it ends when it is given up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog
from sqlalchemy import Row

from domain.delivery import given_up
from domain.errors import Conflict
from domain.store import Cause, UnitOfWork
from domain.store.facts import WorkflowCommandKind
from domain.workflows import requests, starts
from domain.workflows.starts import DuplicateWorkflow, RegisterWorkflow
from workers.runtime.set_aside import isolated

WHAT: Mapping[str, str] = {
    WorkflowCommandKind.START: "start process",
    WorkflowCommandKind.CORRELATE: "take message",
    WorkflowCommandKind.COMPLETE_TASK: "complete user task",
    WorkflowCommandKind.ASSIGN_TASK: "assign user task",
    WorkflowCommandKind.RETRY_TASK: "retry task",
}

_log = structlog.get_logger()


@contextmanager
def alone(row: Row[Any]) -> Iterator[None]:
    """Work on one command: whatever is no outage ends here, so that one command never ends the loop."""
    with isolated("dispatch", "command", commandId=row.id, **facts_of(row)):
        try:
            yield
        except Conflict as conflict:
            # Our lease ended and the next dispatcher has settled the command, or its process has read what the message tells.
            _log.info("workflow_command_settled_elsewhere", **facts_of(row), conflictCode=conflict.code)


def pass_gate(uow: UnitOfWork, gate: RegisterWorkflow) -> DuplicateWorkflow | None:
    """Register a started instance; returns the refusal when another one was faster."""
    try:
        starts.register(uow, gate)
    except DuplicateWorkflow as duplicate:
        # The command is settled all the same: the refusal is stored beside its outcome.
        uow.flag_conflict(duplicate)
        return duplicate
    return None


def fail_start(uow: UnitOfWork, row: Row[Any], reason: str) -> None:
    """End a start that the engine refuses as START_FAILED, and open its case. Raises CorrelationMovedOn."""
    starts.start_refused(uow, row.business_key)
    requests.finish(uow, row.id, "START_FAILED")
    _open_case(uow, row, reason)


def give_up(uow: UnitOfWork, row: Row[Any], reason: str) -> None:
    """Leave a command other than a start to a person, and open its case."""
    requests.give_up(uow, row.id, reason)
    _open_case(uow, row, reason)


def _open_case(uow: UnitOfWork, row: Row[Any], reason: str) -> None:
    what = f"{WHAT.get(row.kind, row.kind)} {row.name}"  # another release may know more kinds
    tried = {"tried": what, "times": row.refusals + 1, "since": row.refused_since or row.created_at, "last_reason": reason}
    case = given_up.open_case(uow, row.business_key, f"The engine does not {what}: {reason}", tried)
    if case is None:
        _log.error("workflow_command_without_case", **facts_of(row), reason=reason)


def cause_of(row: Row[Any], instance_id: str | None = None) -> Cause:
    """Who acts when a command is carried out."""
    return Cause(
        tenant_id=row.tenant_id,
        actor="dispatch",
        command=f"dispatch-{row.kind.lower().replace('_', '-')}",
        command_id=row.id,
        process_instance_id=instance_id,
        business_key=row.business_key,
    )


def facts_of(row: Row[Any]) -> dict[str, Any]:
    """What a log line says of a command."""
    return {
        "tenantId": row.tenant_id,
        "businessKey": row.business_key,
        "kind": row.kind,
        "name": row.name,
        "attempts": row.attempts,
    }
