"""Sales orders: what a customer accepted, and where its delivery stands. Terms: TMF622 Product Order.

The header moves only when the whole order does; steps have rows and versions of their own (the lesson, section 23).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Sequence, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, Invalid, SafeAction
from domain.store import Aggregate, Base, Matrix, Owned, ref


class OrderStatus(StrEnum):
    CREATED = "CREATED"
    SUBMITTED = "SUBMITTED"
    IN_PROGRESS = "IN_PROGRESS"
    HELD = "HELD"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    CANCELLING = "CANCELLING"
    FULFILLED = "FULFILLED"
    PARTIALLY_FULFILLED = "PARTIALLY_FULFILLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


class OrderEvent(StrEnum):
    SUBMIT = "SUBMIT"
    VALIDATION_FAILED = "VALIDATION_FAILED"
    PLAN_READY = "PLAN_READY"
    ALL_STEPS_DONE = "ALL_STEPS_DONE"
    ALL_REQUIRED_FAILED = "ALL_REQUIRED_FAILED"
    MIXED_FINAL = "MIXED_FINAL"
    BLOCKED = "BLOCKED"
    UNBLOCKED = "UNBLOCKED"
    REQUEST_CANCEL = "REQUEST_CANCEL"
    CANCEL_ACCEPTED = "CANCEL_ACCEPTED"
    CANCEL_DECLINED = "CANCEL_DECLINED"
    UNDO_SETTLED = "UNDO_SETTLED"
    UNDO_INCOMPLETE = "UNDO_INCOMPLETE"


O, V = OrderStatus, OrderEvent  # noqa: E741 - the matrix below reads as a table
FINAL = frozenset({O.FULFILLED, O.PARTIALLY_FULFILLED, O.FAILED, O.CANCELLED, O.REJECTED})
RUNNING = (O.IN_PROGRESS, O.HELD, O.CANCEL_REQUESTED)
UNSETTLED = (*RUNNING, O.CANCELLING)

ORDER_MATRIX = Matrix(
    OrderStatus,
    OrderEvent,
    moves={
        V.SUBMIT: {O.CREATED: O.SUBMITTED},
        V.VALIDATION_FAILED: {O.CREATED: O.REJECTED, O.SUBMITTED: O.REJECTED},
        V.PLAN_READY: {O.SUBMITTED: O.IN_PROGRESS},
        V.ALL_STEPS_DONE: dict.fromkeys(RUNNING, O.FULFILLED),
        V.ALL_REQUIRED_FAILED: dict.fromkeys(RUNNING, O.FAILED),
        V.MIXED_FINAL: dict.fromkeys(RUNNING, O.PARTIALLY_FULFILLED),
        V.BLOCKED: {O.SUBMITTED: O.HELD, O.IN_PROGRESS: O.HELD},
        V.UNBLOCKED: {O.HELD: O.IN_PROGRESS},
        V.REQUEST_CANCEL: {
            O.CREATED: O.CANCELLED,
            O.SUBMITTED: O.CANCEL_REQUESTED,
            O.IN_PROGRESS: O.CANCEL_REQUESTED,
            O.HELD: O.CANCEL_REQUESTED,
        },
        V.CANCEL_ACCEPTED: {O.CANCEL_REQUESTED: O.CANCELLING},
        # Back to where it was: an order that is still blocked is HELD again by its next evaluation.
        V.CANCEL_DECLINED: {O.CANCEL_REQUESTED: O.IN_PROGRESS},
        V.UNDO_SETTLED: {O.CANCELLING: O.CANCELLED},
        V.UNDO_INCOMPLETE: {O.CANCELLING: O.PARTIALLY_FULFILLED},
    },
    keeps={
        V.SUBMIT: frozenset({O.SUBMITTED}),
        V.PLAN_READY: frozenset({O.IN_PROGRESS}),
        V.ALL_STEPS_DONE: frozenset({O.CANCELLING}) | FINAL,
        V.ALL_REQUIRED_FAILED: frozenset({O.CANCELLING}) | FINAL,
        V.MIXED_FINAL: frozenset({O.CANCELLING}) | FINAL,
        V.BLOCKED: frozenset({O.HELD, O.CANCEL_REQUESTED, O.CANCELLING}) | FINAL,
        V.UNBLOCKED: frozenset({O.IN_PROGRESS, O.CANCEL_REQUESTED, O.CANCELLING}) | FINAL,
        V.UNDO_SETTLED: FINAL,
        V.UNDO_INCOMPLETE: FINAL,
    },
)
"""domain.md, "Order, cancellation, fallout, correlation"."""


class OrderNotRunning(Conflict):
    """The order is not in progress: no new step may start."""

    safe_action = SafeAction.NOTHING_TO_DO


class StepsOpen(Conflict):
    """Not every step of the order has the outcome that this needs."""

    safe_action = SafeAction.NOTHING_TO_DO


class OrderVersionConflict(Conflict):
    """The order has moved on since it was looked at."""


class OrderTerminal(Conflict):
    """The order has ended: there is nothing left to cancel."""

    safe_action = SafeAction.NOTHING_TO_DO


class CancellationAlreadyOpen(Conflict):
    """The order is being cancelled already."""

    safe_action = SafeAction.NOTHING_TO_DO


class PonrReached(Conflict):
    """The order has passed its point of no return: it cannot be cancelled any more."""

    safe_action = SafeAction.NOTHING_TO_DO


class DecompositionFailed(Conflict):
    """The catalog's steps cannot be put into an order."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class OrderInvalid(Invalid):
    """The order cannot be decomposed into steps of the catalog."""


ORDER_NUMBER = Sequence("order_number", metadata=Base.metadata)
ONE_ORDER_PER_REVISION = "uq_order_quote_revision_primary"


class SalesOrder(Aggregate, Base):
    """TMF622 Product Order. At most one PRIMARY order per accepted revision, whatever the layers above do."""

    ID_FIELD = "order_id"
    __tablename__ = "sales_order"
    __table_args__ = (
        ORDER_MATRIX.check_status(),
        CheckConstraint("order_kind IN ('PRIMARY', 'CHANGE', 'RETURN')", name="kind"),
        UniqueConstraint("tenant_id", "order_number"),
        Index(
            ONE_ORDER_PER_REVISION, "tenant_id", "quote_revision_id", unique=True, postgresql_where=text("order_kind = 'PRIMARY'")
        ),
        Index(
            "ix_sales_order_unsettled",
            "updated_at",
            postgresql_where=text("status IN ('IN_PROGRESS', 'HELD', 'CANCEL_REQUESTED', 'CANCELLING')"),
        ),
        ref("quote_revision", of={"quote_id": "quote_id"}),
    )
    order_number: Mapped[str] = mapped_column(server_default=text("'O-' || nextval('order_number')"))
    order_kind: Mapped[str]
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    customer_id: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="4")  # TMF622: 0 highest, 4 lowest
    requested_completion: Mapped[datetime | None]
    hold_reason: Mapped[str | None]


class SalesOrderLine(Owned, Base):
    """What to deliver: a copy of the accepted revision's line."""

    __tablename__ = "sales_order_line"
    __table_args__ = (ref("sales_order", "order_id"), UniqueConstraint("tenant_id", "order_id", "line_no"))
    order_id: Mapped[UUID]
    line_no: Mapped[int]
    product_offering_id: Mapped[str]
    action: Mapped[str]
    quantity: Mapped[int]


def business_key(tenant_id: UUID, order_id: UUID) -> str:
    """The engine's name of an order's fulfilment."""
    return f"order:{tenant_id}:{order_id}"
