"""Fulfilment plans, steps and attempts: what has to be done elsewhere, and what is known of it. Terms: TMF641 Service Order.

Two kinds of knowledge change a step. A *fact* (the provider said so) holds at any version; the matrix decides what it means. An
*inference* (a time-out, "absent") is drawn from something read before, so it names the version it was drawn from and loses to any fact.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, SafeAction
from domain.store import Aggregate, Base, Matrix, Owned, check_in, ref, table_of


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
    CONFIRM_CANCEL = "CONFIRM_CANCEL"
    REFUSE_CANCEL = "REFUSE_CANCEL"
    RESOLVE_RETRY = "RESOLVE_RETRY"
    RESOLVE_REPAIRED = "RESOLVE_REPAIRED"
    RESOLVE_COMPLETED = "RESOLVE_COMPLETED"
    RESOLVE_SKIP = "RESOLVE_SKIP"
    RESOLVE_CANCEL = "RESOLVE_CANCEL"
    RESOLVE_FAIL = "RESOLVE_FAIL"


P, E = StepStatus, StepEvent
FINAL = frozenset({P.COMPLETED, P.CANCELLED, P.SKIPPED, P.FAILED})
DONE = (P.COMPLETED, P.SKIPPED)

STEP_MATRIX = Matrix(
    StepStatus,
    StepEvent,
    moves={
        E.START: {P.PENDING: P.IN_PROGRESS, P.RETRYABLE: P.IN_PROGRESS},
        E.ACKNOWLEDGE: {P.UNKNOWN: P.IN_PROGRESS},
        E.COMPLETE: dict.fromkeys((P.IN_PROGRESS, P.UNKNOWN, P.RETRYABLE, P.HELD, P.CANCEL_REQUESTED), P.COMPLETED),
        E.FAIL_WITHOUT_EFFECT: {P.IN_PROGRESS: P.RETRYABLE, P.UNKNOWN: P.RETRYABLE, P.CANCEL_REQUESTED: P.CANCELLED},
        E.FAIL_FINALLY: {P.IN_PROGRESS: P.HELD, P.UNKNOWN: P.HELD, P.RETRYABLE: P.HELD, P.CANCEL_REQUESTED: P.CANCELLED},
        E.TIME_OUT: {P.IN_PROGRESS: P.UNKNOWN},
        E.FIND_ABSENT: {P.IN_PROGRESS: P.RETRYABLE, P.UNKNOWN: P.RETRYABLE, P.CANCEL_REQUESTED: P.CANCELLED},
        E.FIND_UNCLEAR: {P.IN_PROGRESS: P.HELD, P.UNKNOWN: P.HELD, P.CANCEL_REQUESTED: P.HELD},
        E.CANCEL: {
            P.PENDING: P.CANCELLED,
            P.RETRYABLE: P.CANCELLED,
            P.IN_PROGRESS: P.CANCEL_REQUESTED,
            P.UNKNOWN: P.CANCEL_REQUESTED,
            # Where no attempt can live any more there is nothing to be cancelled elsewhere: RESOLVE_CANCEL.
            P.HELD: P.CANCEL_REQUESTED,
        },
        E.CONFIRM_CANCEL: {P.CANCEL_REQUESTED: P.CANCELLED},
        E.REFUSE_CANCEL: {P.CANCEL_REQUESTED: P.IN_PROGRESS},
        E.RESOLVE_RETRY: {P.HELD: P.RETRYABLE},
        E.RESOLVE_REPAIRED: {P.HELD: P.RETRYABLE},
        E.RESOLVE_COMPLETED: {P.HELD: P.COMPLETED},
        E.RESOLVE_SKIP: {P.HELD: P.SKIPPED},
        E.RESOLVE_CANCEL: {P.HELD: P.CANCELLED},
        E.RESOLVE_FAIL: {P.HELD: P.FAILED},
    },
    keeps={
        E.START: frozenset({P.COMPLETED}),
        E.ACKNOWLEDGE: frozenset({P.IN_PROGRESS, P.HELD, P.CANCEL_REQUESTED, P.COMPLETED}),
        E.COMPLETE: frozenset({P.COMPLETED}),
        E.FAIL_WITHOUT_EFFECT: frozenset({P.RETRYABLE, P.HELD, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.FAIL_FINALLY: frozenset({P.HELD, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.TIME_OUT: frozenset(P) - {P.IN_PROGRESS},
        E.FIND_ABSENT: frozenset({P.PENDING, P.RETRYABLE, P.HELD, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.FIND_UNCLEAR: frozenset({P.PENDING, P.RETRYABLE, P.HELD, P.COMPLETED, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.CANCEL: frozenset({P.CANCEL_REQUESTED, P.COMPLETED, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.CONFIRM_CANCEL: frozenset({P.PENDING, P.RETRYABLE, P.HELD, P.CANCELLED, P.SKIPPED, P.FAILED}),
        E.REFUSE_CANCEL: frozenset(P) - {P.CANCEL_REQUESTED, P.CANCELLED},
    },
    contradicts={
        E.ACKNOWLEDGE: {
            P.PENDING: P.HELD,
            P.RETRYABLE: P.UNKNOWN,
            P.CANCELLED: P.CANCELLED,
            P.SKIPPED: P.SKIPPED,
            P.FAILED: P.FAILED,
        },
        E.COMPLETE: {P.PENDING: P.HELD, P.CANCELLED: P.CANCELLED, P.SKIPPED: P.SKIPPED, P.FAILED: P.FAILED},
        E.COMPLETE_OTHERWISE: {P.COMPLETED: P.COMPLETED},
        E.FAIL_WITHOUT_EFFECT: {P.PENDING: P.PENDING, P.COMPLETED: P.COMPLETED},
        E.FAIL_FINALLY: {P.PENDING: P.PENDING, P.COMPLETED: P.COMPLETED},
        E.FIND_ABSENT: {P.COMPLETED: P.COMPLETED},
        E.CONFIRM_CANCEL: {P.IN_PROGRESS: P.HELD, P.UNKNOWN: P.HELD, P.COMPLETED: P.COMPLETED},
        E.REFUSE_CANCEL: {P.CANCELLED: P.CANCELLED},
    },
)
"""domain.md, "Fulfillment step state machine". COMPLETE_OTHERWISE is a completion under another reference than the first one's."""
ASKED_ABOUT = frozenset(
    {
        (E.CONFIRM_CANCEL, P.COMPLETED),
        (E.REFUSE_CANCEL, P.CANCELLED),
        (E.ACKNOWLEDGE, P.CANCELLED),
        (E.COMPLETE, P.CANCELLED),
        (E.COMPLETE, P.SKIPPED),
        (E.COMPLETE, P.FAILED),
    }
)
"""The contradictions that the provider's own ledger settles (the same page, "! query"); a person is asked about the others.

A refused cancellation is among them because it mostly means that nothing was left to cancel: the request itself had been rejected.
"""


class StepKind(StrEnum):
    """What a step is for: to deliver a part of its order, or to undo the effect of another step."""

    FULFILL = "FULFILL"
    COMPENSATE = "COMPENSATE"


class FailureClass(StrEnum):
    """Why a step does not go on, in the words that the model's rules decide by."""

    NONE = "NONE"
    UNAVAILABLE = "UNAVAILABLE"
    REJECTED = "REJECTED"
    CONTRACT = "CONTRACT"
    TIME_OUT = "TIME_OUT"
    ABSENT = "ABSENT"
    UNCLEAR = "UNCLEAR"
    CONTRADICTION = "CONTRADICTION"
    RELEASED = "RELEASED"  # a person let it try again


class StepVersionConflict(Conflict):
    """The step has moved on since it was looked at."""

    safe_action = SafeAction.NOTHING_TO_DO


class StepAlreadyStarted(Conflict):
    """Somebody is carrying out this step."""

    safe_action = SafeAction.NOTHING_TO_DO


class StepOutcomeUnknown(Conflict):
    """An earlier attempt may have had its effect: the provider is asked before anything is sent again."""

    safe_action = SafeAction.NOTHING_TO_DO


class StepObsolete(Conflict):
    """The step is not to be carried out any more."""

    safe_action = SafeAction.NOTHING_TO_DO


class PredecessorOpen(Conflict):
    """A step that must be done first is not done."""

    safe_action = SafeAction.NOTHING_TO_DO


class FulfillmentPlan(Owned, Base):
    """How one order is delivered. The same order and catalog give the same plan, so decomposing twice finds it."""

    __tablename__ = "fulfillment_plan"
    __table_args__ = (ref("sales_order", "order_id"), UniqueConstraint("tenant_id", "order_id", "plan_no"))
    order_id: Mapped[UUID]
    plan_no: Mapped[int]
    decomposition_hash: Mapped[str]
    catalog_version: Mapped[str]


class FulfillmentStep(Aggregate, Base):
    """One thing a provider has to do. Both facts of a contradiction have a column of their own, so neither overwrites the other.

    `request_no` counts what is asked of the provider, `attempt_no` how often: only a request that a person has repaired is a new one.
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
        check_in("failure_class", FailureClass),
        Index("ix_fulfillment_step_unsettled", "updated_at", postgresql_where=text("status IN ('IN_PROGRESS', 'UNKNOWN')")),
        Index("ix_fulfillment_step_held", "updated_at", postgresql_where=text("status = 'HELD'")),
        Index("ix_fulfillment_step_order", "tenant_id", "order_id"),
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
    __table_args__ = (ref("fulfillment_step", "step_id"), ref("fulfillment_step", "depends_on_step_id"))
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    step_id: Mapped[UUID] = mapped_column(primary_key=True)
    depends_on_step_id: Mapped[UUID] = mapped_column(primary_key=True)


STEP, DEPENDENCY = table_of(FulfillmentStep), table_of(FulfillmentStepDependency)


def business_key(tenant_id: UUID, step_id: UUID) -> str:
    """The engine's name of a step, and the provider's reference to it."""
    return f"step:{tenant_id}:{step_id}"
