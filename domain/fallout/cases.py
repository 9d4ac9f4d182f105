"""Fallout: what an order cannot get past without a person. Term: eTOM order fallout; a case is a TMF621-like ticket.

A case belongs to a queue, and to one person while somebody is at it. Resolved and closed are kept apart: closed means that what was done
has proven right.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Sequence, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Aggregate, Base, Matrix, Owned, append_only, ref


class FalloutStatus(StrEnum):
    OPEN = "OPEN"
    IN_PROGRESS = "IN_PROGRESS"
    AWAITING_INFORMATION = "AWAITING_INFORMATION"
    ON_HOLD = "ON_HOLD"
    RESOLVED = "RESOLVED"
    CLOSED = "CLOSED"
    CANCELLED = "CANCELLED"


class FalloutEvent(StrEnum):
    CLAIM = "CLAIM"
    RELEASE = "RELEASE"
    EXPIRE_CLAIM = "EXPIRE_CLAIM"
    REQUEST_INFORMATION = "REQUEST_INFORMATION"
    RECEIVE_INFORMATION = "RECEIVE_INFORMATION"
    HOLD = "HOLD"
    RESUME = "RESUME"
    ESCALATE = "ESCALATE"
    RESOLVE = "RESOLVE"
    SELF_HEAL = "SELF_HEAL"
    VERIFY = "VERIFY"
    REOPEN = "REOPEN"
    CANCEL = "CANCEL"


F, E = FalloutStatus, FalloutEvent
FINAL = frozenset({F.CLOSED, F.CANCELLED})
OWNED = (F.IN_PROGRESS, F.AWAITING_INFORMATION, F.ON_HOLD)
UNRESOLVED = (F.OPEN, *OWNED)

FALLOUT_MATRIX = Matrix(
    FalloutStatus,
    FalloutEvent,
    moves={
        # Again by the same owner: the lease is prolonged.
        E.CLAIM: {F.OPEN: F.IN_PROGRESS, F.IN_PROGRESS: F.IN_PROGRESS},
        E.RELEASE: {F.IN_PROGRESS: F.OPEN},
        E.EXPIRE_CLAIM: {F.IN_PROGRESS: F.OPEN},
        E.REQUEST_INFORMATION: {F.IN_PROGRESS: F.AWAITING_INFORMATION},
        E.RECEIVE_INFORMATION: {F.AWAITING_INFORMATION: F.IN_PROGRESS},
        E.HOLD: {F.IN_PROGRESS: F.ON_HOLD},
        E.RESUME: {F.ON_HOLD: F.IN_PROGRESS},
        E.ESCALATE: dict.fromkeys(UNRESOLVED, F.OPEN),
        E.RESOLVE: {F.IN_PROGRESS: F.RESOLVED},
        E.SELF_HEAL: dict.fromkeys(UNRESOLVED, F.RESOLVED),
        E.VERIFY: {F.RESOLVED: F.CLOSED},
        E.REOPEN: {F.RESOLVED: F.OPEN},
        E.CANCEL: dict.fromkeys(UNRESOLVED, F.CANCELLED),
    },
    keeps={
        E.RELEASE: frozenset({F.OPEN, F.AWAITING_INFORMATION, F.ON_HOLD}),
        E.EXPIRE_CLAIM: frozenset({F.OPEN, F.AWAITING_INFORMATION, F.ON_HOLD}),
        E.SELF_HEAL: frozenset({F.RESOLVED}) | FINAL,
        E.VERIFY: FINAL,
    },
)
"""domain.md, "Order, cancellation, fallout, correlation". Escalation is how a case gets away from an owner who cannot go on."""


class FalloutType(StrEnum):
    """Why a case was opened."""

    TECHNICAL = "TECHNICAL"
    PROVIDER_REJECTED = "PROVIDER_REJECTED"
    PROVIDER_CONFLICT = "PROVIDER_CONFLICT"
    CONTRADICTORY_CALLBACK = "CONTRADICTORY_CALLBACK"
    UNSOLICITED_CALLBACK = "UNSOLICITED_CALLBACK"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    COMPENSATION_FAILED = "COMPENSATION_FAILED"
    DATA_INVALID = "DATA_INVALID"
    DECOMPOSITION_FAILED = "DECOMPOSITION_FAILED"
    SLA_BREACH = "SLA_BREACH"
    WORKFLOW_INCIDENT = "WORKFLOW_INCIDENT"


class Severity(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"


class Queue(StrEnum):
    """Who works on a case, from the first level up; the engine's groups have the same names."""

    FIRST_LEVEL = "falloutL1"
    SECOND_LEVEL = "falloutL2"
    MANAGERS = "falloutManagers"


LADDER = tuple(Queue)
USER_TASK = "resolve-fallout"  # what a case is in Tasklist
TIME_TO_RESOLVE = {
    Severity.LOW: timedelta(hours=72),
    Severity.MEDIUM: timedelta(hours=24),
    Severity.HIGH: timedelta(hours=8),
    Severity.CRITICAL: timedelta(hours=2),
}
SHARE_TO_CLAIM = 4  # somebody is at it after a quarter of the time, or it goes one level up
CLAIM_LEASE = timedelta(minutes=30)  # long enough for a call to a provider, short enough for the end of somebody's shift


class NoteKind(StrEnum):
    """What was written to a case."""

    INFORMATION_REQUEST = "INFORMATION_REQUEST"
    INFORMATION = "INFORMATION"
    HOLD = "HOLD"
    COMMENT = "COMMENT"
    CONFIRMATION = "CONFIRMATION"


CASE_NUMBER = Sequence("fallout_case_number", metadata=Base.metadata)
ONE_OPEN_CASE = "uq_fallout_case_open"


class FalloutCase(Aggregate, Base):
    """`dedupe_key` names the trouble: while its case is not closed, the same trouble opens no second one."""

    ID_FIELD = "case_id"
    __tablename__ = "fallout_case"
    __table_args__ = (
        FALLOUT_MATRIX.check_status(),
        CheckConstraint(f"type IN ({', '.join(repr(each.value) for each in FalloutType)})", name="type"),
        CheckConstraint("severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')", name="severity"),
        CheckConstraint("queue IN ('falloutL1', 'falloutL2', 'falloutManagers')", name="queue"),
        CheckConstraint(
            "(status IN ('IN_PROGRESS', 'AWAITING_INFORMATION', 'ON_HOLD')) = (owner_user_id IS NOT NULL)", name="owner"
        ),
        CheckConstraint("(status = 'IN_PROGRESS') = (claim_expires_at IS NOT NULL)", name="lease"),
        ref("sales_order", "order_id"),
        ref("fulfillment_step", "step_id"),
        UniqueConstraint("tenant_id", "case_number"),
        Index(
            ONE_OPEN_CASE,
            "tenant_id",
            "dedupe_key",
            unique=True,
            postgresql_where=text("status NOT IN ('CLOSED', 'CANCELLED')"),
        ),
        Index("ix_fallout_case_order", "tenant_id", "order_id"),
        Index("ix_fallout_case_claimed", "claim_expires_at", postgresql_where=text("status = 'IN_PROGRESS'")),
    )
    case_number: Mapped[str] = mapped_column(server_default=text("'F-' || nextval('fallout_case_number')"))
    order_id: Mapped[UUID | None]
    step_id: Mapped[UUID | None]
    type: Mapped[str]
    severity: Mapped[str]
    queue: Mapped[str]
    detail: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    dedupe_key: Mapped[str]
    owner_user_id: Mapped[str | None]
    claim_expires_at: Mapped[datetime | None]
    claim_due_at: Mapped[datetime]
    due_at: Mapped[datetime]
    escalation_level: Mapped[int] = mapped_column(server_default="0")
    reopen_count: Mapped[int] = mapped_column(server_default="0")
    resolution: Mapped[str | None]
    resolved_by: Mapped[str | None]
    external_ref: Mapped[str | None]
    resolution_evidence: Mapped[str | None]


class FalloutNote(Owned, Base):
    """Something a person wrote to a case; a CONFIRMATION names the external reference that a second person has seen."""

    __tablename__ = "fallout_note"
    __table_args__ = (
        CheckConstraint("kind IN ('INFORMATION_REQUEST', 'INFORMATION', 'HOLD', 'COMMENT', 'CONFIRMATION')", name="kind"),
        CheckConstraint("(kind = 'CONFIRMATION') = (external_ref IS NOT NULL)", name="confirmation"),
        ref("fallout_case", "case_id"),
        Index("ix_fallout_note_case", "tenant_id", "case_id"),
    )
    case_id: Mapped[UUID]
    kind: Mapped[str]
    author: Mapped[str]
    text: Mapped[str]
    external_ref: Mapped[str | None]


append_only(FalloutNote)


def business_key(tenant_id: UUID, case_id: UUID) -> str:
    """The engine's name of a case."""
    return f"fallout:{tenant_id}:{case_id}"
