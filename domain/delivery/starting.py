"""Starts a step or its cancellation: a worker claims it for one attempt before it sends the provider request.

From the commit on the request may have left: without a reply its outcome is UNKNOWN, never "not sent".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, text, true, update
from sqlalchemy.dialects.postgresql import insert

from domain.delivery import attempts, repairing, steps
from domain.delivery.attempts import ATTEMPT, LIVE, AttemptCommand, AttemptStatus, ProviderAttempt
from domain.delivery.orders import OrderNotRunning, OrderStatus, SalesOrder
from domain.delivery.step_moves import EXPECTED_VERSION, HAS_OPEN_PREDECESSOR, REPEATABLE
from domain.delivery.steps import (
    STEP_MATRIX,
    FulfillmentStep,
    PredecessorOpen,
    StepAlreadyStarted,
    StepEvent,
    StepKind,
    StepObsolete,
    StepOutcomeUnknown,
    StepStatus,
)
from domain.errors import Conflict, SafeAction
from domain.store import Check, Guard, Move, UnitOfWork
from domain.store.idempotency import request_hash


class StepNotCancellable(Conflict):
    """The step's provider takes no cancellations: the outcome of the step must be waited for."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


ORDER_RUNNING = Check(SalesOrder, "running", Guard(OrderNotRunning, SalesOrder.status == OrderStatus.IN_PROGRESS))
START = Move(
    FulfillmentStep,
    STEP_MATRIX,
    StepEvent.START,
    Guard(PredecessorOpen, ~HAS_OPEN_PREDECESSOR),
    EXPECTED_VERSION,
    # A person has let it be sent again, and meanwhile the provider may have forgotten the key.
    Guard(StepOutcomeUnknown, REPEATABLE),
    sets={FulfillmentStep.attempt_no: FulfillmentStep.attempt_no + 1},
    emits="StepStarted",
    illegal={StepStatus.IN_PROGRESS: StepAlreadyStarted, StepStatus.UNKNOWN: StepOutcomeUnknown}
    | dict.fromkeys(steps.FINAL | {StepStatus.HELD, StepStatus.CANCEL_REQUESTED}, StepObsolete),
)
CANCELLABLE = Check(
    FulfillmentStep,
    "cancellable",
    Guard(StepObsolete, FulfillmentStep.status == StepStatus.CANCEL_REQUESTED),
    Guard(StepNotCancellable, FulfillmentStep.cancellable.is_(true())),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartStep:
    """A worker is about to send the request of a step, or the request to cancel it."""

    step_id: UUID
    expected_version: int
    worker_id: str
    external_task_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedStep:
    """What to send, and under which key; `compensates` is the key of the request whose effect is to be undone."""

    step: Row[Any]
    attempt_id: UUID
    idempotency_key: str
    product_offering_id: str
    quantity: int
    instructions: str | None = None
    compensates: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCancellation:
    """What to send, and under which key; `request_key` is the key of the request that is to be cancelled."""

    step: Row[Any]
    attempt_id: UUID
    idempotency_key: str
    request_key: str


def start_step(uow: UnitOfWork, command: StartStep) -> StartedStep:
    """Claim the step for one attempt. Raises OrderNotRunning and the refusals of START."""
    known = uow.read(FulfillmentStep, command.step_id)
    if known.kind == StepKind.FULFILL:  # an undo step is due, whatever became of the order
        uow.require(ORDER_RUNNING, order_id=known.order_id)
    step = uow.apply(START, command)
    request = repairing.request_of(uow, step)
    key = attempts.idempotency_key(step.id, request_no=step.request_no)
    attempt_id = _claim(uow, step, command, AttemptCommand.EXECUTE, [step.step_code, *request.values()])
    return StartedStep(
        step=step,
        attempt_id=attempt_id,
        idempotency_key=key,
        product_offering_id=request[repairing.OFFERING],
        quantity=request[repairing.QUANTITY],
        instructions=request[repairing.INSTRUCTIONS],
        compensates=_undone(uow, step.compensates_step_id) if step.compensates_step_id else None,
    )


def _undone(uow: UnitOfWork, step_id: UUID) -> str:
    return attempts.idempotency_key(step_id, request_no=uow.read(FulfillmentStep, step_id).request_no)


def start_cancellation(uow: UnitOfWork, command: StartStep) -> StartedCancellation:
    """Claim the cancellation of a step at its provider. Raises StepObsolete, StepNotCancellable, StepAlreadyStarted."""
    step = uow.require(CANCELLABLE, command)
    request_key = attempts.idempotency_key(step.id, request_no=step.request_no)
    attempt_id = _claim(uow, step, command, AttemptCommand.CANCEL, [request_key])
    key = attempts.idempotency_key(step.id, AttemptCommand.CANCEL, step.request_no)
    return StartedCancellation(step=step, attempt_id=attempt_id, idempotency_key=key, request_key=request_key)


def record_cancellation_status(uow: UnitOfWork, attempt_id: UUID, status: AttemptStatus) -> bool:
    """Record what is known of one request to cancel, if it is still live; returns whether it was.

    ACKNOWLEDGED: a callback will tell its outcome; ABSENT: it may be sent again; FAILED: the provider rejects it, or will never reply.
    """
    uow.read(FulfillmentStep, uow.read(ProviderAttempt, attempt_id).step_id, lock=True)
    return attempts.settle(uow, {"id": attempt_id, "command": AttemptCommand.CANCEL}, status)


def _claim(uow: UnitOfWork, step: Row[Any], command: StartStep, attempted: AttemptCommand, request: list[Any]) -> UUID:
    now = func.clock_timestamp()
    attempt = (
        insert(ATTEMPT)
        .values(
            tenant_id=uow.tenant_id,
            id=uuid4(),
            step_id=step.id,
            provider_name=step.provider_name,
            command=attempted,
            attempt_no=step.attempt_no,
            idempotency_key=attempts.idempotency_key(step.id, attempted, step.request_no),
            request_hash=request_hash(request),
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
        raise StepAlreadyStarted.about(step)
    return UUID(str(attempt_id))


def heartbeat(uow: UnitOfWork, external_task_id: str, worker_id: str) -> None:
    """Record that the worker still carries out this external task."""
    mine = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, external_task_id=external_task_id, worker_id=worker_id)
    uow.connection.execute(mine.where(text(LIVE)).values(heartbeat_at=func.clock_timestamp()))
