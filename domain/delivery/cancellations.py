"""Requests to cancel an order: who wants it, who decided, how it ended. Term: TMF622 CancelProductOrder.

A request is a row beside its order: it says why the order stopped, and has final states of its own (DONE_PARTIAL, DECLINED).
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Index, Numeric, func, literal, text, true
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import Mapped, mapped_column

from domain.authority import AuthorityGrant, is_granted
from domain.errors import Conflict, Forbidden, SafeAction
from domain.store import Aggregate, Base, Check, Guard, Matrix, Move, UnitOfWork, is_one_of, param, ref, sql_list
from domain.workflows.instances import NotThisProcess, acts_for
from domain.workflows.keys import Kind, key_of


class CancellationStatus(StrEnum):
    ACKNOWLEDGED = "ACKNOWLEDGED"
    ASSESSING = "ASSESSING"
    DECLINED = "DECLINED"
    EXECUTING = "EXECUTING"
    DONE = "DONE"
    DONE_PARTIAL = "DONE_PARTIAL"


class CancellationEvent(StrEnum):
    ASSESS = "ASSESS"
    ACCEPT = "ACCEPT"
    DECLINE = "DECLINE"
    FINISH = "FINISH"
    FINISH_PARTLY = "FINISH_PARTLY"


S, E = CancellationStatus, CancellationEvent  # for the matrix below
UNDECIDED = (S.ACKNOWLEDGED, S.ASSESSING)
OPEN = (*UNDECIDED, S.EXECUTING)
FINAL = frozenset({S.DECLINED, S.DONE, S.DONE_PARTIAL})

CANCELLATION_MATRIX = Matrix(
    CancellationStatus,
    CancellationEvent,
    moves={
        E.ASSESS: {S.ACKNOWLEDGED: S.ASSESSING},
        # An order that is only CREATED has no step: its cancellation needs no assessment.
        E.ACCEPT: {S.ACKNOWLEDGED: S.EXECUTING, S.ASSESSING: S.EXECUTING},
        E.DECLINE: {S.ACKNOWLEDGED: S.DECLINED, S.ASSESSING: S.DECLINED},
        E.FINISH: {S.EXECUTING: S.DONE},
        E.FINISH_PARTLY: {S.EXECUTING: S.DONE_PARTIAL},
    },
    keeps={
        E.ASSESS: frozenset({S.ASSESSING}) | FINAL,
        E.DECLINE: frozenset({S.DECLINED}),
        E.FINISH: FINAL,
        E.FINISH_PARTLY: FINAL,
    },
)
"""A refused request leaves no row, so REJECTED is not a state (decision 0018)."""


class CancellationDecided(Conflict):
    """This cancellation was decided in the meantime."""

    safe_action = SafeAction.NOTHING_TO_DO


class CancellationRequest(Aggregate, Base):
    """At most one is open per order. `expected_order_version` is the version that the requester had seen."""

    ID_FIELD = "cancellation_id"
    __tablename__ = "cancellation_request"
    __table_args__ = (
        CANCELLATION_MATRIX.check_status(),
        ref("sales_order", "order_id"),
        ref("shown_form", of={"id": "subject_id"}),
        Index("ix_cancellation_request_order", "tenant_id", "order_id"),
        Index(
            "uq_cancellation_request_open",
            "tenant_id",
            "order_id",
            unique=True,
            postgresql_where=text(f"status IN {sql_list(OPEN)}"),
        ),
    )
    order_id: Mapped[UUID]
    reason_code: Mapped[str]
    requested_by: Mapped[str]
    expected_order_version: Mapped[int] = mapped_column(BigInteger)
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]
    shown_form_id: Mapped[UUID | None]


class OwnCancellation(Forbidden):
    """Whoever asked for a cancellation does not decide on it."""


class CancellationNotYours(Forbidden):
    """You may not decide on this cancellation: it needs a fulfilment manager whose authority reaches the value of the order."""


class CancellationVersionConflict(Conflict):
    """The request to cancel was changed after it was loaded."""


ASSESSOR = "fulfillmentManagers"
"""The role of those who decide on cancellations that the rules leave to a person."""
MAY_DECIDE = Check(
    CancellationRequest,
    "decide",
    Guard(NotThisProcess, acts_for(CancellationRequest.id)),
    Guard(CancellationDecided, is_one_of(CancellationRequest.status, *UNDECIDED)),
    Guard(CancellationVersionConflict, CancellationRequest.version == param("expected_version")),
    Guard(OwnCancellation, CancellationRequest.requested_by != param("decided_by")),
    Guard(CancellationNotYours, literal(ASSESSOR) == func.any(param("roles", ARRAY(TEXT)))),
    Guard(
        CancellationNotYours,
        is_granted(
            CancellationRequest.tenant_id,
            param("decided_by"),
            AuthorityGrant.role == ASSESSOR,
            func.coalesce(AuthorityGrant.max_deal_amount >= param("order_value", Numeric()), true()),
        ),
    ),
)
DECISION = {CancellationRequest.decided_by: param("decided_by"), CancellationRequest.decision_reason: param("decision_reason")}
WHEN_DECIDED = dict.fromkeys((*FINAL, S.EXECUTING), CancellationDecided)
ASSESS = Move(CancellationRequest, CANCELLATION_MATRIX, E.ASSESS)
ACCEPT = Move(CancellationRequest, CANCELLATION_MATRIX, E.ACCEPT, sets=DECISION, illegal=WHEN_DECIDED)
DECLINE = Move(CancellationRequest, CANCELLATION_MATRIX, E.DECLINE, sets=DECISION, illegal=WHEN_DECIDED)
FINISH = Move(CancellationRequest, CANCELLATION_MATRIX, E.FINISH)
FINISH_PARTLY = Move(CancellationRequest, CANCELLATION_MATRIX, E.FINISH_PARTLY)


def business_key(tenant_id: UUID, cancellation_id: UUID) -> str:
    """The engine's name for a request to cancel that a person must assess."""
    return key_of(Kind.CANCELLATION, tenant_id, cancellation_id)


def calling_keys(uow: UnitOfWork, cancellation_id: UUID) -> tuple[str, ...]:
    """The business keys of the processes that may ask a person to assess a cancellation: that of its order. Raises NotFound."""
    return (key_of(Kind.ORDER, uow.tenant_id, uow.read(CancellationRequest, cancellation_id).order_id),)
