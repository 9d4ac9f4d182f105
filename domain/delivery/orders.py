"""Sales orders: what a customer accepted, and where its delivery stands. Terms: TMF622 Product Order.

The header moves only when the whole order does; steps have rows and versions of their own
(docs/domain.md#orders-and-evaluation).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, Invalid, SafeAction
from domain.store import Aggregate, Base, Matrix, Owned, next_number, ref, sql_list, table_of
from domain.workflows.keys import Kind, key_of


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


S, E = OrderStatus, OrderEvent  # for the matrix below
FINAL = frozenset({S.FULFILLED, S.PARTIALLY_FULFILLED, S.FAILED, S.CANCELLED, S.REJECTED})
RUNNING = (S.IN_PROGRESS, S.HELD, S.CANCEL_REQUESTED)
UNSETTLED = (*RUNNING, S.CANCELLING)
LIVE = (S.CREATED, S.SUBMITTED, *UNSETTLED)
IS_CREATED = f"status = '{S.CREATED}'"

ORDER_MATRIX = Matrix(
    OrderStatus,
    OrderEvent,
    moves={
        E.SUBMIT: {S.CREATED: S.SUBMITTED},
        E.VALIDATION_FAILED: {S.CREATED: S.REJECTED, S.SUBMITTED: S.REJECTED},
        E.PLAN_READY: {S.SUBMITTED: S.IN_PROGRESS},
        E.ALL_STEPS_DONE: dict.fromkeys(RUNNING, S.FULFILLED),
        E.ALL_REQUIRED_FAILED: dict.fromkeys(RUNNING, S.FAILED),
        E.MIXED_FINAL: dict.fromkeys(RUNNING, S.PARTIALLY_FULFILLED),
        E.BLOCKED: {S.SUBMITTED: S.HELD, S.IN_PROGRESS: S.HELD},
        E.UNBLOCKED: {S.HELD: S.IN_PROGRESS},
        E.REQUEST_CANCEL: {
            S.CREATED: S.CANCELLED,
            S.SUBMITTED: S.CANCEL_REQUESTED,
            S.IN_PROGRESS: S.CANCEL_REQUESTED,
            S.HELD: S.CANCEL_REQUESTED,
        },
        E.CANCEL_ACCEPTED: {S.CANCEL_REQUESTED: S.CANCELLING},
        # The evaluation that follows makes the order HELD again if it is still blocked.
        E.CANCEL_DECLINED: {S.CANCEL_REQUESTED: S.IN_PROGRESS},
        E.UNDO_SETTLED: {S.CANCELLING: S.CANCELLED},
        E.UNDO_INCOMPLETE: {S.CANCELLING: S.PARTIALLY_FULFILLED},
    },
    keeps={
        E.SUBMIT: frozenset({S.SUBMITTED}),
        E.PLAN_READY: frozenset({S.IN_PROGRESS}),
        E.ALL_STEPS_DONE: frozenset({S.CANCELLING}) | FINAL,
        E.ALL_REQUIRED_FAILED: frozenset({S.CANCELLING}) | FINAL,
        E.MIXED_FINAL: frozenset({S.CANCELLING}) | FINAL,
        E.BLOCKED: frozenset({S.HELD, S.CANCEL_REQUESTED, S.CANCELLING}) | FINAL,
        E.UNBLOCKED: frozenset({S.IN_PROGRESS, S.CANCEL_REQUESTED, S.CANCELLING}) | FINAL,
        E.UNDO_SETTLED: FINAL,
        E.UNDO_INCOMPLETE: FINAL,
    },
)


class OrderNotRunning(Conflict):
    """The order is not in progress: no new step may start."""

    aggregate = "sales_order"
    safe_action = SafeAction.NOTHING_TO_DO


class StepsOpen(Conflict):
    """Not every step of the order has the outcome that this needs."""

    safe_action = SafeAction.NOTHING_TO_DO


class OrderVersionConflict(Conflict):
    """The order has changed since it was read."""


class OrderTerminal(Conflict):
    """The order is final: there is nothing left to cancel."""

    aggregate = "sales_order"
    safe_action = SafeAction.NOTHING_TO_DO


class CancellationAlreadyOpen(Conflict):
    """The order is being cancelled already."""

    aggregate = "sales_order"
    safe_action = SafeAction.NOTHING_TO_DO


class PonrReached(Conflict):
    """The order has passed its point of no return: it cannot be cancelled any more."""

    aggregate = "sales_order"
    safe_action = SafeAction.NOTHING_TO_DO


class DecompositionFailed(Conflict):
    """The catalog's steps cannot be put into an order."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class OrderInvalid(Invalid):
    """The order cannot be decomposed into steps of the catalog."""


ONE_ORDER_PER_REVISION = "uq_order_quote_revision_primary"


class SalesOrder(Aggregate, Base):
    """TMF622 Product Order. At most one PRIMARY order per accepted revision, whatever the layers above do.

    `net_total` is the accepted price, in `currency`.
    """

    ID_FIELD = "order_id"
    __tablename__ = "sales_order"
    __table_args__ = (
        ORDER_MATRIX.check_status(),
        CheckConstraint("order_kind IN ('PRIMARY', 'CHANGE', 'RETURN')", name="kind"),
        UniqueConstraint("tenant_id", "order_number"),
        Index("ix_sales_order_quote", "tenant_id", "quote_id"),
        Index("ix_sales_order_acceptance", "tenant_id", "quote_revision_id"),
        Index(
            ONE_ORDER_PER_REVISION, "tenant_id", "quote_revision_id", unique=True, postgresql_where=text("order_kind = 'PRIMARY'")
        ),
        Index(
            "ix_sales_order_unsettled",
            "tenant_id",
            "updated_at",
            postgresql_where=text(f"status IN {sql_list(UNSETTLED)}"),
        ),
        Index("ix_sales_order_changed", "updated_at", "id"),
        Index("ix_sales_order_created", "tenant_id", "created_at", postgresql_where=text(IS_CREATED)),
        Index("ix_sales_order_live", "tenant_id", "created_at", postgresql_where=text(f"status IN {sql_list(LIVE)}")),
        ref("quote_revision", of={"quote_id": "quote_id"}),
        # What is ordered was accepted, in the same transaction; the acceptance names the order and is written after it.
        ForeignKeyConstraint(
            ["tenant_id", "quote_revision_id"],
            ["quote_acceptance.tenant_id", "quote_acceptance.quote_revision_id"],
            name="fk_sales_order_acceptance",
            deferrable=True,
            initially="DEFERRED",
            use_alter=True,
        ),
    )
    order_number: Mapped[str] = mapped_column(server_default=next_number("O"))
    order_kind: Mapped[str]
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    customer_id: Mapped[str]
    priority: Mapped[int] = mapped_column(server_default="4")  # TMF622: 0 highest, 4 lowest
    requested_completion: Mapped[datetime | None]
    hold_reason: Mapped[str | None]
    currency: Mapped[str | None]
    net_total: Mapped[Decimal | None]


class SalesOrderLine(Owned, Base):
    """What to deliver: a copy of a line of the accepted revision."""

    __tablename__ = "sales_order_line"
    __table_args__ = (ref("sales_order", "order_id"), UniqueConstraint("tenant_id", "order_id", "line_no"))
    order_id: Mapped[UUID]
    line_no: Mapped[int]
    product_offering_id: Mapped[str]
    action: Mapped[str]
    quantity: Mapped[int]


ORDER = table_of(SalesOrder)


def business_key(tenant_id: UUID, order_id: UUID) -> str:
    """The engine's name for an order."""
    return key_of(Kind.ORDER, tenant_id, order_id)
