"""Starting a step: claimed once, for one attempt, before anything is sent (the lesson, section 16).

From the commit on the request may have left: what is not heard of again is UNKNOWN, never "not sent".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, text, update
from sqlalchemy.dialects.postgresql import insert

from domain import steps
from domain.fulfilling import ATTEMPT, HAS_OPEN_PREDECESSOR, VERSION
from domain.orders import OrderNotRunning, OrderStatus, SalesOrder, SalesOrderLine
from domain.steps import (
    LIVE,
    STEP_MATRIX,
    AttemptStatus,
    FulfillmentStep,
    PredecessorOpen,
    StepAlreadyStarted,
    StepEvent,
    StepObsolete,
    StepOutcomeUnknown,
    StepStatus,
)
from domain.store import Check, Guard, Move, UnitOfWork
from domain.store.idempotency import request_hash

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
