"""Carrying out steps: start each once, record what came of it, evaluate the whole order.

Commit first, then tell the engine: what is stored here makes every repeat harmless (the lesson, sections 12, 16 and 23).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Interval, Row, and_, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from domain import steps, workflows
from domain.errors import Conflict, InvalidTransition, SafeAction
from domain.orders import OrderNotRunning, OrderStatus, SalesOrder, SalesOrderLine
from domain.steps import (
    DONE,
    LIVE,
    STEP_MATRIX,
    AttemptStatus,
    FulfillmentStep,
    FulfillmentStepDependency,
    PredecessorOpen,
    ProviderAttempt,
    StepAlreadyStarted,
    StepEvent,
    StepObsolete,
    StepOutcomeUnknown,
    StepStatus,
    StepVersionConflict,
)
from domain.store import Check, Effect, Guard, Move, UnitOfWork, param, table_of
from domain.store.facts import WorkflowCommandKind
from domain.store.idempotency import request_hash

STEP, DEPENDENCY, ATTEMPT = (table_of(entity) for entity in (FulfillmentStep, FulfillmentStepDependency, ProviderAttempt))
PREDECESSOR = STEP.alias("predecessor")


class AbsenceNotProven(Conflict):
    """The request may still be on its way: too little time has passed since it was sent."""

    safe_action = SafeAction.NOTHING_TO_DO


class OutcomeSource(StrEnum):
    """How we know."""

    RESPONSE = "RESPONSE"
    CALLBACK = "CALLBACK"
    RECONCILIATION = "RECONCILIATION"


# Done is final: a look without a lock can only err on the safe side.
HAS_OPEN_PREDECESSOR = exists(
    select(PREDECESSOR.c.id)
    .join(DEPENDENCY, and_(DEPENDENCY.c.tenant_id == PREDECESSOR.c.tenant_id, DEPENDENCY.c.depends_on_step_id == PREDECESSOR.c.id))
    .where(DEPENDENCY.c.tenant_id == STEP.c.tenant_id, DEPENDENCY.c.step_id == STEP.c.id, PREDECESSOR.c.status.not_in(DONE))
)
ABSENCE_PROVEN = exists(
    select(ATTEMPT.c.id).where(
        ATTEMPT.c.tenant_id == STEP.c.tenant_id,
        ATTEMPT.c.step_id == STEP.c.id,
        text(f"provider_attempt.{LIVE}"),
        ATTEMPT.c.sent_at < func.clock_timestamp() - param("safe_interval", Interval()),
    )
)
VERSION = Guard(StepVersionConflict, FulfillmentStep.version == param("expected_version"))

ORDER_RUNNING = Check(SalesOrder, "running", Guard(OrderNotRunning, SalesOrder.status == OrderStatus.IN_PROGRESS))
START = Move(
    FulfillmentStep,
    STEP_MATRIX,
    StepEvent.START,
    Guard(PredecessorOpen, ~HAS_OPEN_PREDECESSOR),
    VERSION,
    sets={FulfillmentStep.attempt_no: FulfillmentStep.attempt_no + 1},
    emits="StepStarted",
    illegal={StepStatus.IN_PROGRESS: StepAlreadyStarted, StepStatus.UNKNOWN: StepOutcomeUnknown}
    | dict.fromkeys(steps.FINAL | {StepStatus.HELD, StepStatus.CANCEL_REQUESTED}, StepObsolete),
)
EVIDENCE = {
    FulfillmentStep.external_ref: func.coalesce(FulfillmentStep.external_ref, param("external_ref")),
    FulfillmentStep.external_event_id: func.coalesce(param("external_event_id"), FulfillmentStep.external_event_id),
    FulfillmentStep.external_event_at: func.coalesce(param("external_event_at"), FulfillmentStep.external_event_at),
    FulfillmentStep.final_reason: param("reason"),
}
FACTS = {
    StepEvent.ACKNOWLEDGE: Move(FulfillmentStep, STEP_MATRIX, StepEvent.ACKNOWLEDGE),
    StepEvent.COMPLETE: Move(
        FulfillmentStep,
        STEP_MATRIX,
        StepEvent.COMPLETE,
        sets={**EVIDENCE, FulfillmentStep.external_complete_received_at: func.clock_timestamp()},
        emits="StepCompleted",
    ),
    StepEvent.FAIL_WITHOUT_EFFECT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.FAIL_WITHOUT_EFFECT, sets=EVIDENCE, emits="StepRetryable"
    ),
    StepEvent.FAIL_FINALLY: Move(FulfillmentStep, STEP_MATRIX, StepEvent.FAIL_FINALLY, sets=EVIDENCE, emits="StepHeld"),
}
"""Facts hold at any version: no version guard; the matrix decides what they mean."""
INFERENCES = {
    StepEvent.TIME_OUT: Move(FulfillmentStep, STEP_MATRIX, StepEvent.TIME_OUT, VERSION, emits="StepOutcomeUnknown"),
    StepEvent.FIND_ABSENT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.FIND_ABSENT, Guard(AbsenceNotProven, ABSENCE_PROVEN), VERSION, emits="StepRetryable"
    ),
    StepEvent.FIND_UNCLEAR: Move(FulfillmentStep, STEP_MATRIX, StepEvent.FIND_UNCLEAR, VERSION, emits="StepHeld"),
}
"""Inferences are drawn from a version that was read, and lose to whatever changed it since."""
ATTEMPT_AFTER = {
    StepEvent.ACKNOWLEDGE: AttemptStatus.ACKNOWLEDGED,
    StepEvent.COMPLETE: AttemptStatus.SUCCEEDED,
    StepEvent.FAIL_WITHOUT_EFFECT: AttemptStatus.FAILED,
    StepEvent.FAIL_FINALLY: AttemptStatus.FAILED,
    StepEvent.TIME_OUT: AttemptStatus.UNKNOWN,
    StepEvent.FIND_ABSENT: AttemptStatus.ABSENT,
    StepEvent.FIND_UNCLEAR: AttemptStatus.UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartStep:
    """A worker is about to send the request: from its commit on, the request may have left."""

    step_id: UUID
    expected_version: int
    worker_id: str
    external_task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedStep:
    """What to send, and under which key."""

    step: Row[Any]
    attempt_id: UUID
    idempotency_key: str
    product_offering_id: str
    quantity: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFact:
    """Something the provider said about a step. Times are the provider's own clock, kept beside ours."""

    step_id: UUID
    event: StepEvent
    source: OutcomeSource
    external_ref: str | None = None
    external_request_id: str | None = None
    external_event_id: str | None = None
    external_event_at: datetime | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Something concluded about a step from its version `expected_version`. `safe_interval` counts for FIND_ABSENT."""

    step_id: UUID
    expected_version: int
    event: StepEvent
    source: OutcomeSource
    safe_interval: timedelta = timedelta(0)
    reason: str | None = None


def start_step(uow: UnitOfWork, command: StartStep) -> StartedStep:
    """Claim the step for one attempt. Raises OrderNotRunning and the refusals of START."""
    known = uow.read(FulfillmentStep, command.step_id)
    uow.require(ORDER_RUNNING, order_id=known.order_id)
    step = uow.apply(START, command)
    line = uow.read(SalesOrderLine, step.line_id)
    key = steps.idempotency_key(step.id)
    now = func.clock_timestamp()
    attempt = (
        insert(ATTEMPT)
        .values(
            tenant_id=uow.tenant_id,
            id=uuid4(),
            step_id=step.id,
            command="EXECUTE",
            attempt_no=step.attempt_no,
            idempotency_key=key,
            request_hash=request_hash([step.step_code, line.product_offering_id, line.quantity]),
            status=AttemptStatus.SENT,
            worker_id=command.worker_id,
            external_task_id=command.external_task_id,
            sent_at=now,
            heartbeat_at=now,
        )
        .on_conflict_do_nothing()
        .returning(ATTEMPT.c.id)
    )
    attempt_id = uow.connection.execute(attempt).scalar_one_or_none()
    if attempt_id is None:
        raise StepAlreadyStarted(aggregate_type="fulfillment_step", aggregate_id=step.id)
    return StartedStep(
        step=step, attempt_id=attempt_id, idempotency_key=key, product_offering_id=line.product_offering_id, quantity=line.quantity
    )


def heartbeat(uow: UnitOfWork, external_task_id: str, worker_id: str) -> None:
    """The worker is alive and still at it."""
    mine = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, external_task_id=external_task_id, worker_id=worker_id)
    uow.connection.execute(mine.where(text(LIVE)).values(heartbeat_at=func.clock_timestamp()))


def record_fact(uow: UnitOfWork, command: RecordFact) -> tuple[Effect, Row[Any]]:
    """Let a fact act on its step as the matrix says; returns the effect and the step after it.

    Raises InvalidTransition where the matrix has no cell.
    """
    step = uow.read(FulfillmentStep, command.step_id, lock=True)
    cell = STEP_MATRIX.cell(command.event, StepStatus(step.status))
    if cell is None:
        raise InvalidTransition(aggregate_type="fulfillment_step", aggregate_id=step.id, current_status=step.status)
    if cell.effect is Effect.CONTRADICTION:
        return cell.effect, uow.apply(FACTS[command.event], command, emits="ContradictionRecorded")
    if cell.effect is Effect.MOVE:
        step = uow.apply(FACTS[command.event], command)
    _settle_attempt(uow, step.id, command)
    if command.source is not OutcomeSource.RESPONSE and cell.effect is Effect.MOVE:
        tell_step(uow, step)
    return cell.effect, step


def infer(uow: UnitOfWork, command: Infer) -> Row[Any]:
    """Act on a conclusion, if nothing has changed since. Raises the refusals of that inference."""
    step = uow.apply(INFERENCES[command.event], command)
    _settle_attempt(uow, step.id, command)
    if command.source is OutcomeSource.RECONCILIATION:
        tell_step(uow, step)
    return step


def _settle_attempt(uow: UnitOfWork, step_id: UUID, command: RecordFact | Infer) -> None:
    request_id = command.external_request_id if isinstance(command, RecordFact) else None
    live = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step_id, command="EXECUTE").where(text(LIVE))
    values = {"status": ATTEMPT_AFTER[command.event], "outcome_source": command.source, "reason": command.reason}
    uow.connection.execute(live.values(**values, external_request_id=func.coalesce(request_id, ATTEMPT.c.external_request_id)))


def tell_step(uow: UnitOfWork, step: Row[Any]) -> None:
    """Wake the process that waits for this step's outcome."""
    key = steps.business_key(uow.tenant_id, step.id)
    uow.ask_engine(
        WorkflowCommandKind.CORRELATE,
        "ProviderCallbackReceived",
        key,
        {"step_outcome": outcome_of(step.status)},
        workflows.MESSAGE_MATTERS,
    )


def outcome_of(status: str) -> str:
    """A step's state in the words of its process (`stepOutcome`)."""
    words = {StepStatus.PENDING: "WAITING", StepStatus.IN_PROGRESS: "ACCEPTED", StepStatus.CANCEL_REQUESTED: "ACCEPTED"}
    return words.get(StepStatus(status), status)
