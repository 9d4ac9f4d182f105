"""What people and processes look at: plain reads, no rule. Every read is of one tenant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, exists, func, select

from domain.delivery.attempts import ATTEMPT, LIVE_STATUSES, AttemptCommand
from domain.delivery.cancellations import CancellationRequest
from domain.delivery.orders import FINAL as ORDER_FINAL
from domain.delivery.orders import SalesOrder
from domain.delivery.step_moves import HAS_OPEN_PREDECESSOR
from domain.delivery.steps import FINAL as STEP_FINAL
from domain.delivery.steps import STEP, StepKind, StepStatus
from domain.store import UnitOfWork, as_json, is_one_of, table_of, without
from domain.workflows.starts import CORRELATION


def order(uow: UnitOfWork, order_id: UUID) -> dict[str, Any]:
    """An order with its steps and versions. Raises NotFound."""
    header = uow.read(SalesOrder, order_id)
    steps = uow.connection.execute(
        select(*STEP.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id).order_by(STEP.c.created_at, STEP.c.step_code)
    ).all()
    names = (
        *("step_code", "kind", "status", "version", "attempt_no", "provider_name", "external_ref", "final_reason"),
        *("failure_class", "is_ponr", "compensates_step_id", "cancel_requested_at"),
    )
    body: dict[str, Any] = as_json(
        {
            **without(header, "tenant_id", "id", "prior_status"),
            "order_id": header.id,
            "ponr_reached": any(step.is_ponr and step.status == StepStatus.COMPLETED for step in steps),
            "steps": [{"step_id": step.id, **{name: getattr(step, name) for name in names}} for step in steps],
        }
    )
    return body


def orders_of(
    uow: UnitOfWork,
    limit: int,
    after: UUID | None,
    *,
    quote_id: UUID | None = None,
    status: str | None = None,
    customers: Collection[str] | None = None,
) -> list[dict[str, Any]]:
    """Orders, a page at a time, ordered by id; of these `customers` only, unless it is None."""
    query = select(*ORDER.c).where(ORDER.c.tenant_id == uow.tenant_id).order_by(ORDER.c.id).limit(limit)
    query = query.where(ORDER.c.quote_id == quote_id) if quote_id else query
    query = query.where(ORDER.c.status == status) if status else query
    query = query.where(ORDER.c.customer_id.in_(customers)) if customers is not None else query
    query = query.where(ORDER.c.id > after) if after else query
    return [
        as_json({**without(row, "tenant_id", "id", "prior_status"), "order_id": row.id}) for row in uow.connection.execute(query)
    ]


def step(uow: UnitOfWork, step_id: UUID) -> Row[Any]:
    """A step, with its live attempt's worker, age in seconds since sent and since the last heartbeat. Raises NotFound."""
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
    if row.status in STEP_FINAL or (row.kind == StepKind.FULFILL and row.order_status in ORDER_FINAL):
        return "OBSOLETE"
    return "WAITING" if row.waiting else "READY"


def steps_in(uow: UnitOfWork, order_id: UUID, status: StepStatus) -> Sequence[Row[Any]]:
    """The steps of an order that are in a state."""
    query = select(*STEP.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id, status=status)
    return uow.connection.execute(query.order_by(STEP.c.created_at, STEP.c.step_code)).all()


def open_undo_steps(uow: UnitOfWork, order_id: UUID) -> Sequence[Row[Any]]:
    """The undo steps of an order that have not ended, but for those that have a process of their own."""
    own = exists(
        select(CORRELATION.c.id).where(CORRELATION.c.tenant_id == STEP.c.tenant_id, CORRELATION.c.aggregate_id == STEP.c.id)
    )
    query = select(*STEP.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id, kind=StepKind.COMPENSATE)
    return uow.connection.execute(query.where(~is_one_of(STEP.c.status, *STEP_FINAL), ~own).order_by(STEP.c.created_at)).all()


def attempts_at(uow: UnitOfWork, step_id: UUID) -> Sequence[Row[Any]]:
    """What was sent about a step, the newest first."""
    query = select(*ATTEMPT.c).filter_by(tenant_id=uow.tenant_id, step_id=step_id)
    return uow.connection.execute(query.order_by(ATTEMPT.c.sent_at.desc())).all()


def worker_of(uow: UnitOfWork, idempotency_key: str) -> str | None:
    """Which worker last sent a request under this key."""
    latest = select(ATTEMPT.c.worker_id).filter_by(tenant_id=uow.tenant_id, idempotency_key=idempotency_key)
    return uow.connection.execute(latest.order_by(ATTEMPT.c.attempt_no.desc()).limit(1)).scalar_one_or_none()


ORDER, REQUEST = table_of(SalesOrder), table_of(CancellationRequest)
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
