"""Requests to cancel an order: who wants it, who decided, how it ended. Term: TMF622 CancelProductOrder.

A request is a fact beside the order: it tells why an order stopped, and it ends in words of its own (DONE_PARTIAL, DECLINED).
"""

from __future__ import annotations

from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, SafeAction
from domain.store import Aggregate, Base, Matrix, Move, param, ref


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


C, E = CancellationStatus, CancellationEvent
OPEN = (C.ACKNOWLEDGED, C.ASSESSING, C.EXECUTING)
ENDED = frozenset({C.DECLINED, C.DONE, C.DONE_PARTIAL})

CANCELLATION_MATRIX = Matrix(
    CancellationStatus,
    CancellationEvent,
    moves={
        E.ASSESS: {C.ACKNOWLEDGED: C.ASSESSING},
        # Nothing was begun on an order that is only CREATED: it needs no assessment.
        E.ACCEPT: {C.ACKNOWLEDGED: C.EXECUTING, C.ASSESSING: C.EXECUTING},
        E.DECLINE: {C.ACKNOWLEDGED: C.DECLINED, C.ASSESSING: C.DECLINED},
        E.FINISH: {C.EXECUTING: C.DONE},
        E.FINISH_PARTLY: {C.EXECUTING: C.DONE_PARTIAL},
    },
    keeps={
        E.ASSESS: frozenset({C.ASSESSING}) | ENDED,
        E.DECLINE: frozenset({C.DECLINED}),
        E.FINISH: ENDED,
        E.FINISH_PARTLY: ENDED,
    },
)
"""domain.md, "Order, cancellation, fallout, correlation"; what is refused leaves no request, so REJECTED is not a state."""


class CancellationDecided(Conflict):
    """Whether to cancel was decided meanwhile."""

    safe_action = SafeAction.NOTHING_TO_DO


class CancellationRequest(Aggregate, Base):
    """At most one is open per order. `expected_order_version` is what the requester had seen."""

    ID_FIELD = "cancellation_id"
    __tablename__ = "cancellation_request"
    __table_args__ = (
        CANCELLATION_MATRIX.check_status(),
        ref("sales_order", "order_id"),
        Index(
            "uq_cancellation_request_open",
            "tenant_id",
            "order_id",
            unique=True,
            postgresql_where=text("status IN ('ACKNOWLEDGED', 'ASSESSING', 'EXECUTING')"),
        ),
    )
    order_id: Mapped[UUID]
    reason_code: Mapped[str]
    requested_by: Mapped[str]
    expected_order_version: Mapped[int] = mapped_column(BigInteger)
    decided_by: Mapped[str | None]
    decision_reason: Mapped[str | None]


DECISION = {CancellationRequest.decided_by: param("decided_by"), CancellationRequest.decision_reason: param("decision_reason")}
UNDECIDED = dict.fromkeys((*ENDED, C.EXECUTING), CancellationDecided)
ASSESS = Move(CancellationRequest, CANCELLATION_MATRIX, E.ASSESS)
ACCEPT = Move(CancellationRequest, CANCELLATION_MATRIX, E.ACCEPT, sets=DECISION, illegal=UNDECIDED)
DECLINE = Move(CancellationRequest, CANCELLATION_MATRIX, E.DECLINE, sets=DECISION, illegal=UNDECIDED)
FINISH = Move(CancellationRequest, CANCELLATION_MATRIX, E.FINISH)
FINISH_PARTLY = Move(CancellationRequest, CANCELLATION_MATRIX, E.FINISH_PARTLY)
