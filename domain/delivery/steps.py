"""Fulfilment plans and their steps: what providers have to do, and what is known of it. Terms: TMF641 Service Order.

Two kinds of knowledge change a step. A *fact* (the provider said so) holds at any version; the matrix decides what it means. An
*inference* (a time-out, "absent") is drawn from a version that was read before; it names that version, and loses to any fact
(docs/architecture.md#facts-and-inferences).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, Index, Row, UniqueConstraint, select, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, SafeAction
from domain.store import Aggregate, Base, Matrix, Owned, UnitOfWork, check_in, ref, table_of
from domain.workflows.keys import Kind, key_of


class StepStatus(StrEnum):
    PENDING = "PENDING"
    IN_PROGRESS = "IN_PROGRESS"
    UNKNOWN = "UNKNOWN"
    RETRYABLE = "RETRYABLE"
    HELD = "HELD"
    CANCEL_REQUESTED = "CANCEL_REQUESTED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"


class StepEvent(StrEnum):
    START = "START"
    ACKNOWLEDGE = "ACKNOWLEDGE"
    COMPLETE = "COMPLETE"
    COMPLETE_OTHERWISE = "COMPLETE_OTHERWISE"
    FAIL_WITHOUT_EFFECT = "FAIL_WITHOUT_EFFECT"
    FAIL_FINALLY = "FAIL_FINALLY"
    TIME_OUT = "TIME_OUT"
    FIND_ABSENT = "FIND_ABSENT"
    FIND_UNCLEAR = "FIND_UNCLEAR"
    CANCEL = "CANCEL"
    CANCEL_RELEASED = "CANCEL_RELEASED"
    CONFIRM_CANCEL = "CONFIRM_CANCEL"
    REFUSE_CANCEL = "REFUSE_CANCEL"
    RESOLVE_RETRY = "RESOLVE_RETRY"
    RESOLVE_REPAIRED = "RESOLVE_REPAIRED"
    RESOLVE_COMPLETED = "RESOLVE_COMPLETED"
    RESOLVE_SKIP = "RESOLVE_SKIP"
    RESOLVE_CANCEL = "RESOLVE_CANCEL"
    RESOLVE_FAIL = "RESOLVE_FAIL"


S, E = StepStatus, StepEvent  # for the matrix below
FINAL = frozenset({S.COMPLETED, S.CANCELLED, S.SKIPPED, S.FAILED})
DONE = (S.COMPLETED, S.SKIPPED)
TO_SEND = "status IN ('PENDING', 'RETRYABLE') AND ready_at IS NOT NULL"

STEP_MATRIX = Matrix(
    StepStatus,
    StepEvent,
    moves={
        E.START: {S.PENDING: S.IN_PROGRESS, S.RETRYABLE: S.IN_PROGRESS},
        E.ACKNOWLEDGE: {S.UNKNOWN: S.IN_PROGRESS},
        E.COMPLETE: dict.fromkeys((S.IN_PROGRESS, S.UNKNOWN, S.RETRYABLE, S.HELD, S.CANCEL_REQUESTED), S.COMPLETED),
        E.FAIL_WITHOUT_EFFECT: {S.IN_PROGRESS: S.RETRYABLE, S.UNKNOWN: S.RETRYABLE, S.CANCEL_REQUESTED: S.CANCELLED},
        E.FAIL_FINALLY: {S.IN_PROGRESS: S.HELD, S.UNKNOWN: S.HELD, S.RETRYABLE: S.HELD, S.CANCEL_REQUESTED: S.CANCELLED},
        E.TIME_OUT: {S.IN_PROGRESS: S.UNKNOWN},
        E.FIND_ABSENT: {S.IN_PROGRESS: S.RETRYABLE, S.UNKNOWN: S.RETRYABLE, S.CANCEL_REQUESTED: S.CANCELLED},
        E.FIND_UNCLEAR: {S.IN_PROGRESS: S.HELD, S.UNKNOWN: S.HELD, S.CANCEL_REQUESTED: S.HELD},
        E.CANCEL: {
            S.PENDING: S.CANCELLED,
            S.RETRYABLE: S.CANCELLED,
            S.IN_PROGRESS: S.CANCEL_REQUESTED,
            S.UNKNOWN: S.CANCEL_REQUESTED,
            # Only while an attempt is live: without one the provider has nothing to cancel, and the event is RESOLVE_CANCEL.
            S.HELD: S.CANCEL_REQUESTED,
        },
        E.CANCEL_RELEASED: {S.RETRYABLE: S.CANCEL_REQUESTED},  # it was sent before, and nobody knows what became of it
        E.CONFIRM_CANCEL: {S.CANCEL_REQUESTED: S.CANCELLED},
        E.REFUSE_CANCEL: {S.CANCEL_REQUESTED: S.IN_PROGRESS},
        E.RESOLVE_RETRY: {S.HELD: S.RETRYABLE},
        E.RESOLVE_REPAIRED: {S.HELD: S.RETRYABLE},
        E.RESOLVE_COMPLETED: {S.HELD: S.COMPLETED},
        E.RESOLVE_SKIP: {S.HELD: S.SKIPPED},
        E.RESOLVE_CANCEL: {S.HELD: S.CANCELLED},
        E.RESOLVE_FAIL: {S.HELD: S.FAILED},
    },
    keeps={
        E.START: frozenset({S.COMPLETED}),
        E.ACKNOWLEDGE: frozenset({S.IN_PROGRESS, S.HELD, S.CANCEL_REQUESTED, S.COMPLETED}),
        E.COMPLETE: frozenset({S.COMPLETED}),
        E.FAIL_WITHOUT_EFFECT: frozenset({S.RETRYABLE, S.HELD, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.FAIL_FINALLY: frozenset({S.HELD, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.TIME_OUT: frozenset(S) - {S.IN_PROGRESS},
        E.FIND_ABSENT: frozenset({S.PENDING, S.RETRYABLE, S.HELD, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.FIND_UNCLEAR: frozenset({S.PENDING, S.RETRYABLE, S.HELD, S.COMPLETED, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.CANCEL: frozenset({S.CANCEL_REQUESTED, S.COMPLETED, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.CONFIRM_CANCEL: frozenset({S.PENDING, S.RETRYABLE, S.HELD, S.CANCELLED, S.SKIPPED, S.FAILED}),
        E.REFUSE_CANCEL: frozenset(S) - {S.CANCEL_REQUESTED, S.CANCELLED},
    },
    contradicts={
        E.ACKNOWLEDGE: {
            S.PENDING: S.HELD,
            S.RETRYABLE: S.UNKNOWN,
            S.CANCELLED: S.CANCELLED,
            S.SKIPPED: S.SKIPPED,
            S.FAILED: S.FAILED,
        },
        E.COMPLETE: {S.PENDING: S.HELD, S.CANCELLED: S.CANCELLED, S.SKIPPED: S.SKIPPED, S.FAILED: S.FAILED},
        E.COMPLETE_OTHERWISE: {status: status for status in S if status is not S.PENDING},
        E.FAIL_WITHOUT_EFFECT: {S.PENDING: S.PENDING, S.COMPLETED: S.COMPLETED},
        E.FAIL_FINALLY: {S.PENDING: S.PENDING, S.COMPLETED: S.COMPLETED},
        E.FIND_ABSENT: {S.COMPLETED: S.COMPLETED},
        E.CONFIRM_CANCEL: {S.IN_PROGRESS: S.HELD, S.UNKNOWN: S.HELD, S.COMPLETED: S.COMPLETED},
        E.REFUSE_CANCEL: {S.CANCELLED: S.CANCELLED},
    },
)
"""COMPLETE_OTHERWISE is a completion that does not count: the first one had another reference, or a person has repaired its request since."""
SETTLED_BY_PROVIDER = frozenset(
    {
        (E.CONFIRM_CANCEL, S.COMPLETED),
        (E.REFUSE_CANCEL, S.CANCELLED),
        (E.ACKNOWLEDGE, S.CANCELLED),
        *((E.COMPLETE, status) for status in (S.CANCELLED, S.SKIPPED, S.FAILED)),
    }
)
"""The contradictions that the provider's own ledger settles (`?` in docs/matrices.md); a person is called for the others.

A refused cancellation is among them because it mostly means that the provider had rejected the request itself, and has nothing to cancel.
"""


class StepKind(StrEnum):
    """What a step is for: to deliver a part of its order, or to undo the effect of another step."""

    FULFILL = "FULFILL"
    COMPENSATE = "COMPENSATE"


class FailureClass(StrEnum):
    """Why a step does not go on, in the words of the decision table (`fallout-policy`)."""

    NONE = "NONE"
    UNAVAILABLE = "UNAVAILABLE"
    REJECTED = "REJECTED"
    CONTRACT = "CONTRACT"
    TIME_OUT = "TIME_OUT"
    ABSENT = "ABSENT"
    UNCLEAR = "UNCLEAR"
    CONTRADICTION = "CONTRADICTION"
    RELEASED = "RELEASED"  # a person, or the policy, lets it try again


class StepVersionConflict(Conflict):
    """The step has changed since it was read."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class StepAlreadyStarted(Conflict):
    """A worker carries out this step already."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class StepOutcomeUnknown(Conflict):
    """An earlier attempt may have had its effect: the provider must be asked before the request is sent again."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class StepObsolete(Conflict):
    """The step must not be carried out any more."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class PredecessorOpen(Conflict):
    """A step that must be done first is not done yet."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class FulfillmentPlan(Owned, Base):
    """How one order is delivered. The same order and catalog give the same plan, so a repeated decomposition finds it."""

    __tablename__ = "fulfillment_plan"
    __table_args__ = (ref("sales_order", "order_id"), UniqueConstraint("tenant_id", "order_id", "plan_no"))
    order_id: Mapped[UUID]
    plan_no: Mapped[int]
    decomposition_hash: Mapped[str]
    catalog_version: Mapped[str]


class FulfillmentStep(Aggregate, Base):
    """One thing that a provider has to do, or to undo.

    `request_no` counts provider requests, `attempt_no` how often they were sent: only a request that a person has repaired is a new one.
    `request_changes` are the fields of the request that a person has repaired, with their values.
    """

    ID_FIELD = "step_id"
    __tablename__ = "fulfillment_step"
    __table_args__ = (
        STEP_MATRIX.check_status(),
        ref("fulfillment_plan", "plan_id"),
        ref("sales_order", "order_id"),
        ref("sales_order_line", "line_id"),
        ref("fulfillment_step", "compensates_step_id"),
        UniqueConstraint("tenant_id", "plan_id", "line_id", "step_code", "kind"),
        UniqueConstraint("tenant_id", "compensates_step_id"),
        CheckConstraint(f"(kind = '{StepKind.COMPENSATE}') = (compensates_step_id IS NOT NULL)", name="compensation"),
        check_in("kind", StepKind),
        Index("ix_fulfillment_step_line", "tenant_id", "line_id"),
        check_in("failure_class", FailureClass),
        Index("ix_fulfillment_step_held", "tenant_id", "updated_at", postgresql_where=text("status = 'HELD'")),
        Index("ix_fulfillment_step_order", "tenant_id", "order_id"),
        Index("ix_fulfillment_step_ready", "tenant_id", "ready_at", postgresql_where=text(TO_SEND)),
        Index("ix_fulfillment_step_retryable", "updated_at", postgresql_where=text("status = 'RETRYABLE'")),
    )
    plan_id: Mapped[UUID]
    order_id: Mapped[UUID]
    line_id: Mapped[UUID]
    step_code: Mapped[str]
    kind: Mapped[str]
    compensates_step_id: Mapped[UUID | None]
    provider_name: Mapped[str]
    compensable: Mapped[bool]
    is_ponr: Mapped[bool]
    idempotent: Mapped[bool] = mapped_column(server_default="true")
    has_lookup: Mapped[bool] = mapped_column(server_default="true")
    cancellable: Mapped[bool] = mapped_column(server_default="true")
    key_window_seconds: Mapped[int] = mapped_column(server_default="86400")
    attempt_no: Mapped[int] = mapped_column(server_default="0")
    request_no: Mapped[int] = mapped_column(server_default="1")
    request_changes: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    ready_at: Mapped[datetime | None]
    external_ref: Mapped[str | None]
    cancel_requested_at: Mapped[datetime | None]
    external_complete_received_at: Mapped[datetime | None]
    external_event_id: Mapped[str | None]
    external_event_at: Mapped[datetime | None]
    failure_class: Mapped[str] = mapped_column(server_default="NONE")
    final_reason: Mapped[str | None]


class FulfillmentStepDependency(Base):
    """`step_id` may start when `depends_on_step_id` is done."""

    __tablename__ = "fulfillment_step_dependency"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        ref("fulfillment_step", "depends_on_step_id"),
        Index("ix_fulfillment_step_dependency_other_side", "tenant_id", "depends_on_step_id"),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    step_id: Mapped[UUID] = mapped_column(primary_key=True)
    depends_on_step_id: Mapped[UUID] = mapped_column(primary_key=True)


STEP, DEPENDENCY = table_of(FulfillmentStep), table_of(FulfillmentStepDependency)


def business_key(tenant_id: UUID, step_id: UUID) -> str:
    """The engine's name for a step, and the reference under which its provider knows it."""
    return f"{business_keys(tenant_id)}{step_id}"


def business_keys(tenant_id: UUID) -> str:
    """How the business keys of all steps of a tenant begin."""
    return f"{Kind.STEP}:{tenant_id}:"


def calling_keys(uow: UnitOfWork, step_id: UUID) -> tuple[str, ...]:
    """The business keys of the processes that may carry a step out: that of its order, or one of its own. Raises NotFound."""
    order_id = uow.read(FulfillmentStep, step_id).order_id
    return key_of(Kind.ORDER, uow.tenant_id, order_id), key_of(Kind.UNDO_STEP, uow.tenant_id, step_id)


def of_order(uow: UnitOfWork, order_id: UUID, *conditions: ColumnElement[bool], lock: bool = False) -> Sequence[Row[Any]]:
    """The steps of an order that meet the conditions, in the order of their plan.

    With `lock` they stay as they are until commit; they come, and are locked, in the order of their ids, so that two transactions cannot
    wait for each other.
    """
    query = select(*STEP.c).where(STEP.c.tenant_id == uow.tenant_id, STEP.c.order_id == order_id, *conditions)
    as_planned = query.order_by(STEP.c.created_at, STEP.c.step_code)
    return uow.connection.execute(query.order_by(STEP.c.id).with_for_update(key_share=True) if lock else as_planned).all()
