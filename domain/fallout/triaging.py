"""What the system does with cases: it opens one for each trouble, once, and ends it when the trouble ends.

Every case has a process of its own, because it outlives the process of its step (docs/decisions/0016-a-case-has-a-process-of-its-own.md).
The start of that process is queued in the transaction that opens the case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select

from domain import messages
from domain.errors import AlreadyExists, TryAgain
from domain.fallout import cases
from domain.fallout.cases import (
    FALLOUT_MATRIX,
    FINAL,
    LADDER,
    SHARE_TO_CLAIM,
    TIME_TO_RESOLVE,
    UNRESOLVED,
    FalloutCase,
    FalloutEvent,
    FalloutStatus,
    FalloutType,
    Queue,
    Severity,
)
from domain.store import Move, UnitOfWork, as_json, is_one_of, param, table_of
from domain.workflows import requests, starts


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenCase:
    """Trouble that needs a person. `business_key` names the process that has it, if any. `queue`, `severity` and `time_to_resolve` None: by the type."""

    type: FalloutType
    dedupe_key: str
    detail: str
    order_id: UUID | None = None
    business_key: str | None = None
    step_id: UUID | None = None
    queue: Queue | None = None
    severity: Severity | None = None
    time_to_resolve: timedelta | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


CASE = table_of(FalloutCase)
WORKFLOW = "fallout-case"
DISOWNED = {FalloutCase.owner_user_id: None, FalloutCase.claim_expires_at: None}

SELF_HEAL = Move(
    FalloutCase,
    FALLOUT_MATRIX,
    FalloutEvent.SELF_HEAL,
    sets={**DISOWNED, FalloutCase.resolution: param("resolution")},
    emits="FalloutResolved",
)
VERIFY = Move(FalloutCase, FALLOUT_MATRIX, FalloutEvent.VERIFY, emits="FalloutClosed")
REOPEN = Move(
    FalloutCase,
    FALLOUT_MATRIX,
    FalloutEvent.REOPEN,
    sets={
        FalloutCase.reopen_count: FalloutCase.reopen_count + 1,
        FalloutCase.type: param("type"),
        FalloutCase.severity: param("severity"),
        FalloutCase.detail: param("detail"),
        FalloutCase.evidence: param("evidence", CASE.c.evidence.type),
        FalloutCase.claim_due_at: param("claim_due_at", CASE.c.claim_due_at.type),
        FalloutCase.due_at: param("due_at", CASE.c.due_at.type),
    },
    emits="FalloutReopened",
)
CANCEL = Move(FalloutCase, FALLOUT_MATRIX, FalloutEvent.CANCEL, sets=DISOWNED, emits="FalloutCancelled")

BY_TYPE: Mapping[FalloutType, tuple[Severity, Queue]] = {
    FalloutType.TECHNICAL: (Severity.MEDIUM, Queue.FIRST_LEVEL),
    FalloutType.PROVIDER_REJECTED: (Severity.MEDIUM, Queue.FIRST_LEVEL),
    FalloutType.PROVIDER_CONFLICT: (Severity.MEDIUM, Queue.SECOND_LEVEL),
    FalloutType.CONTRADICTORY_CALLBACK: (Severity.HIGH, Queue.SECOND_LEVEL),
    FalloutType.UNSOLICITED_CALLBACK: (Severity.LOW, Queue.SECOND_LEVEL),
    FalloutType.OUTCOME_UNKNOWN: (Severity.HIGH, Queue.FIRST_LEVEL),
    FalloutType.COMPENSATION_FAILED: (Severity.HIGH, Queue.SECOND_LEVEL),
    FalloutType.DATA_INVALID: (Severity.MEDIUM, Queue.SECOND_LEVEL),
    FalloutType.DECOMPOSITION_FAILED: (Severity.HIGH, Queue.SECOND_LEVEL),
    FalloutType.SLA_BREACH: (Severity.HIGH, Queue.SECOND_LEVEL),
    FalloutType.WORKFLOW_INCIDENT: (Severity.HIGH, Queue.SECOND_LEVEL),
}
"""Severity and first queue of each type, for callers that do not ask the rules of the model (DMN `fallout-policy`)."""


def open_case(uow: UnitOfWork, command: OpenCase) -> Row[Any]:
    """Open a case, or find the one that the same trouble has; a RESOLVED one is reopened, and tells what came back. Raises TryAgain."""
    case, _ = _open(uow, command)
    return case


def open_once(uow: UnitOfWork, command: OpenCase) -> bool:
    """Open or reopen a case; returns False when the trouble has one that is open, so that two who find it record it once. Raises TryAgain."""
    _, is_opened = _open(uow, command)
    return is_opened


def _open(uow: UnitOfWork, command: OpenCase) -> tuple[Row[Any], bool]:
    severity, queue = BY_TYPE[command.type]
    severity, queue = command.severity or severity, command.queue or queue
    told = {
        "type": command.type,
        "severity": severity,
        "detail": command.detail,
        "evidence": as_json(command.evidence),
        **deadlines(uow, command.time_to_resolve or TIME_TO_RESOLVE[severity]),
    }
    values = {
        "status": FalloutStatus.OPEN,
        "queue": queue,
        "order_id": command.order_id,
        "step_id": command.step_id,
        "business_key": command.business_key,
        "dedupe_key": command.dedupe_key,
        **told,
    }
    for _ in range(2):  # the other case may end before it is found
        try:
            case = uow.create(FalloutCase, reason="OPEN", emits="FalloutOpened", **values)
        except AlreadyExists:
            found = _find(uow, command.dedupe_key)
            if found is not None:
                return (_again(uow, found, told), True) if found.status == FalloutStatus.RESOLVED else (found, False)
        else:
            _begin(uow, case)
            return case, True
    raise TryAgain


def _find(uow: UnitOfWork, dedupe_key: str) -> Row[Any] | None:
    query = select(*CASE.c).filter_by(tenant_id=uow.tenant_id, dedupe_key=dedupe_key).where(~is_one_of(CASE.c.status, *FINAL))
    return uow.connection.execute(query.with_for_update(key_share=True)).one_or_none()


def _again(uow: UnitOfWork, resolved: Row[Any], told: Mapping[str, Any]) -> Row[Any]:
    case = uow.apply(REOPEN, case_id=resolved.id, **told)
    notify_case(uow, case)
    return case


def deadlines(uow: UnitOfWork, time: timedelta) -> dict[str, Any]:
    """When a case that has `time` from now on must be claimed, and when it must be resolved."""
    now = uow.connection.execute(select(func.clock_timestamp())).scalar_one()
    return {"claim_due_at": now + time / SHARE_TO_CLAIM, "due_at": now + time}


def _begin(uow: UnitOfWork, case: Row[Any]) -> None:
    starts.begin(
        uow,
        starts.BeginWorkflow(
            workflow_name=WORKFLOW,
            aggregate_type="fallout_case",
            aggregate_id=case.id,
            business_key=cases.business_key(uow.tenant_id, case.id),
            variables={"case_id": case.id, "order_id": case.order_id or "", "step_id": case.step_id or ""},
        ),
    )


def notify_case(uow: UnitOfWork, case: Row[Any]) -> None:
    """Tell the case's process that the case has changed; once nobody is asked any more, the assignment of the user task expires.

    The process may not even have asked yet: the dispatcher would look for that task until the assignment expires by itself.
    """
    messages.FALLOUT_CASE_CHANGED.correlate(uow, cases.business_key(uow.tenant_id, case.id))
    if case.status not in UNRESOLVED:
        requests.expire_assignments(uow, cases.resolution_key(uow.tenant_id, case.id), str(case.status))


def take_up(uow: UnitOfWork, case_id: UUID) -> Row[Any]:
    """Read a case for its process, and expire the messages about the changes that the process thereby sees.

    Such a message would end a person's task for nothing. The messages expire before the case is read, so a later change keeps its message.
    """
    requests.expire_messages(uow, cases.business_key(uow.tenant_id, case_id))
    return uow.read(FalloutCase, case_id)


def self_heal(uow: UnitOfWork, dedupe_key: str, resolution: str) -> None:
    """Resolve the cases of a trouble that a fact has ended."""
    for case in _cases(uow, dedupe_key=dedupe_key):
        if case.status in UNRESOLVED:
            notify_case(uow, uow.apply(SELF_HEAL, case_id=case.id, resolution=resolution))


def cancel_cases(uow: UnitOfWork, dedupe_key: str) -> None:
    """Cancel the unresolved cases of a trouble that does not matter any more."""
    for case in _cases(uow, dedupe_key=dedupe_key):
        if case.status in UNRESOLVED:
            notify_case(uow, uow.apply(CANCEL, case_id=case.id))


def verify(uow: UnitOfWork, case: Row[Any]) -> Row[Any]:
    """Close a resolved case, because its trouble is proven to be over."""
    closed = uow.apply(VERIFY, case_id=case.id)
    notify_case(uow, closed)
    return closed


def close(uow: UnitOfWork, dedupe_key: str, resolution: str) -> None:
    """Close the cases of a trouble that has proven to be over; `resolution` says why those are closed that nobody has resolved."""
    self_heal(uow, dedupe_key, resolution)
    for case in _cases(uow, dedupe_key=dedupe_key):
        verify(uow, case)


def resolved_cases(uow: UnitOfWork, order_id: UUID) -> list[Row[Any]]:
    """The order's RESOLVED cases, locked."""
    return [case for case in _cases(uow, order_id=order_id) if case.status == FalloutStatus.RESOLVED]


def _cases(uow: UnitOfWork, **named: Any) -> list[Row[Any]]:
    query = select(*CASE.c).filter_by(tenant_id=uow.tenant_id, **named).where(~is_one_of(CASE.c.status, *FINAL))
    return list(uow.connection.execute(query.order_by(CASE.c.id).with_for_update(key_share=True)))


def next_queue(queue: str) -> Queue:
    """The queue one level up; the highest stays."""
    return LADDER[min(LADDER.index(Queue(queue)) + 1, len(LADDER) - 1)]
