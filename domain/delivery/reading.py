"""Reads orders, steps, attempts and cancellations, for people and for processes. Reads only, of one tenant; no rule stands here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, exists, func, select

from domain.delivery import orders, steps
from domain.delivery.attempts import ATTEMPT, LIVE_STATUSES, AttemptCommand
from domain.delivery.cancellations import CancellationRequest
from domain.delivery.orders import ORDER, SalesOrder
from domain.delivery.step_moves import HAS_OPEN_PREDECESSOR
from domain.delivery.steps import STEP, StepKind, StepStatus
from domain.store import UnitOfWork, as_json, is_one_of, table_of, without
from domain.workflows.starts import CORRELATION

REQUEST = table_of(CancellationRequest)
OF_REQUEST = (
    "order_id",
    "version",
    "status",
    "reason_code",
    "requested_by",
    "decided_by",
    "decision_reason",
    "created_at",
    "updated_at",
)


def order(uow: UnitOfWork, order_id: UUID) -> dict[str, Any]:
    """An order with its steps and versions. Raises NotFound."""
    header = uow.read(SalesOrder, order_id)
    rows = steps.of_order(uow, order_id)
    names = (
        *("step_code", "kind", "status", "version", "attempt_no", "provider_name", "external_ref", "final_reason"),
        *("failure_class", "is_ponr", "compensates_step_id", "cancel_requested_at"),
    )
    body: dict[str, Any] = as_json(
        {
            **without(header, "tenant_id", "id", "prior_status"),
            "order_id": header.id,
            "ponr_reached": any(step.is_ponr and step.status == StepStatus.COMPLETED for step in rows),
            "steps": [{"step_id": step.id, **{name: getattr(step, name) for name in names}} for step in rows],
        }
    )
    return body


def step(uow: UnitOfWork, step_id: UUID) -> Row[Any]:
    """A step with its live attempt: worker, key, and the seconds since it was sent and since the last heartbeat. Raises NotFound."""
    live = and_(
        ATTEMPT.c.tenant_id == STEP.c.tenant_id,
        ATTEMPT.c.step_id == STEP.c.id,
        ATTEMPT.c.command == AttemptCommand.EXECUTE,
        ATTEMPT.c.status.in_(LIVE_STATUSES),
    )
    now = func.clock_timestamp()
    query = (
        select(
            *STEP.c,
            ATTEMPT.c.id.label("attempt_id"),
            ATTEMPT.c.status.label("attempt_status"),
            ATTEMPT.c.worker_id,
            ATTEMPT.c.idempotency_key,
            func.extract("epoch", now - ATTEMPT.c.sent_at).label("seconds_since_sent"),
            func.extract("epoch", now - ATTEMPT.c.heartbeat_at).label("seconds_since_heartbeat"),
        )
        .outerjoin(ATTEMPT, live)
        .where(STEP.c.tenant_id == uow.tenant_id, STEP.c.id == step_id)
    )
    return uow.one(query, "The fulfillment step")


def readiness(uow: UnitOfWork, step_id: UUID) -> str:
    """READY, WAITING, OBSOLETE or HELD: what a step that waits for its predecessors should do. Raises NotFound."""
    row = uow.one(
        select(STEP.c.status, STEP.c.kind, HAS_OPEN_PREDECESSOR.label("waiting"), ORDER.c.status.label("order_status"))
        .join(ORDER, and_(ORDER.c.tenant_id == STEP.c.tenant_id, ORDER.c.id == STEP.c.order_id))
        .where(STEP.c.tenant_id == uow.tenant_id, STEP.c.id == step_id),
        "The fulfillment step",
    )
    if row.status == StepStatus.HELD:
        return "HELD"
    if row.status in steps.FINAL or (row.kind == StepKind.FULFILL and row.order_status in orders.FINAL):
        return "OBSOLETE"
    return "WAITING" if row.waiting else "READY"


def steps_in(uow: UnitOfWork, order_id: UUID, status: StepStatus) -> Sequence[Row[Any]]:
    """The steps of an order that have this status."""
    return steps.of_order(uow, order_id, STEP.c.status == status)


def open_undo_steps(uow: UnitOfWork, order_id: UUID) -> Sequence[Row[Any]]:
    """The undo steps of an order that are not final, without those that have a process of their own."""
    own = exists(
        select(CORRELATION.c.id).where(CORRELATION.c.tenant_id == STEP.c.tenant_id, CORRELATION.c.aggregate_id == STEP.c.id)
    )
    is_open = ~is_one_of(STEP.c.status, *steps.FINAL)
    return steps.of_order(uow, order_id, STEP.c.kind == StepKind.COMPENSATE, is_open, ~own)


def attempts_at(uow: UnitOfWork, step_id: UUID) -> Sequence[Row[Any]]:
    """The attempts at a step, the newest first."""
    query = select(*ATTEMPT.c).filter_by(tenant_id=uow.tenant_id, step_id=step_id)
    return uow.connection.execute(query.order_by(ATTEMPT.c.sent_at.desc())).all()


def worker_of(uow: UnitOfWork, idempotency_key: str) -> str | None:
    """The worker that was the last to send a request under this key."""
    latest = select(ATTEMPT.c.worker_id).filter_by(tenant_id=uow.tenant_id, idempotency_key=idempotency_key)
    return uow.connection.execute(latest.order_by(ATTEMPT.c.attempt_no.desc()).limit(1)).scalar_one_or_none()


def cancellation(row: Row[Any]) -> dict[str, Any]:
    """A cancellation request as people see it."""
    body: dict[str, Any] = as_json({"cancellation_id": row.id, **{name: getattr(row, name) for name in OF_REQUEST}})
    return body


def cancellations_of(uow: UnitOfWork, order_id: UUID, limit: int, after: UUID | None) -> list[dict[str, Any]]:
    """The cancellation requests of an order, a page at a time, ordered by id. Raises NotFound."""
    uow.read(SalesOrder, order_id)
    query = select(*REQUEST.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id).order_by(REQUEST.c.id).limit(limit)
    query = query.where(REQUEST.c.id > after) if after else query
    return [cancellation(row) for row in uow.connection.execute(query)]
