"""Fallout cases: what stops an order until a person acts. Terms: eTOM order fallout; a case is a ticket as in TMF621.

A case belongs to a queue, and to one owner while somebody works on it. RESOLVED means that somebody has acted on it, CLOSED that its trouble
has proven to be over (docs/domain.md#fallout).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Aggregate, Base, Matrix, Owned, UnitOfWork, append_only, check_in, next_number, ref
from domain.workflows.keys import Kind, key_of


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
    HAND_ON = "HAND_ON"
    RESOLVE = "RESOLVE"
    SELF_HEAL = "SELF_HEAL"
    VERIFY = "VERIFY"
    REOPEN = "REOPEN"
    CANCEL = "CANCEL"


# S and E stand for states and events in the matrix below.
S, E = FalloutStatus, FalloutEvent
FINAL = frozenset({S.CLOSED, S.CANCELLED})
OWNED = (S.IN_PROGRESS, S.AWAITING_INFORMATION, S.ON_HOLD)
UNRESOLVED = (S.OPEN, *OWNED)
IS_OPEN = f"status = '{S.OPEN}'"

FALLOUT_MATRIX = Matrix(
    FalloutStatus,
    FalloutEvent,
    moves={
        # A claim by the owner prolongs the lease.
        E.CLAIM: {S.OPEN: S.IN_PROGRESS, S.IN_PROGRESS: S.IN_PROGRESS},
        E.RELEASE: {S.IN_PROGRESS: S.OPEN},
        E.EXPIRE_CLAIM: {S.IN_PROGRESS: S.OPEN},
        E.REQUEST_INFORMATION: {S.IN_PROGRESS: S.AWAITING_INFORMATION},
        E.RECEIVE_INFORMATION: {S.AWAITING_INFORMATION: S.IN_PROGRESS},
        E.HOLD: {S.IN_PROGRESS: S.ON_HOLD},
        E.RESUME: {S.ON_HOLD: S.IN_PROGRESS},
        E.ESCALATE: dict.fromkeys(UNRESOLVED, S.OPEN),
        E.HAND_ON: dict.fromkeys(UNRESOLVED, S.OPEN),
        E.RESOLVE: {S.IN_PROGRESS: S.RESOLVED},
        E.SELF_HEAL: dict.fromkeys(UNRESOLVED, S.RESOLVED),
        E.VERIFY: {S.RESOLVED: S.CLOSED},
        E.REOPEN: {S.RESOLVED: S.OPEN},
        E.CANCEL: dict.fromkeys(UNRESOLVED, S.CANCELLED),
    },
    keeps={
        E.RELEASE: frozenset({S.OPEN, S.AWAITING_INFORMATION, S.ON_HOLD}),
        E.EXPIRE_CLAIM: frozenset({S.OPEN, S.AWAITING_INFORMATION, S.ON_HOLD}),
        E.SELF_HEAL: frozenset({S.RESOLVED}) | FINAL,
        E.VERIFY: FINAL,
    },
)
"""Escalation takes a case from an owner who cannot go on (docs/decisions/0018-states-that-are-reached.md)."""


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
USER_TASK = "resolve-fallout"  # the user task of a case
TIME_TO_RESOLVE = {
    Severity.LOW: timedelta(hours=72),
    Severity.MEDIUM: timedelta(hours=24),
    Severity.HIGH: timedelta(hours=8),
    Severity.CRITICAL: timedelta(hours=2),
}
SHARE_TO_CLAIM = 4  # a case that is not claimed after a quarter of its time goes one level up
CLAIM_LEASE = timedelta(minutes=30)  # long enough for a call to a provider, short enough for the end of somebody's shift


class NoteKind(StrEnum):
    """Why a note was written."""

    INFORMATION_REQUEST = "INFORMATION_REQUEST"
    INFORMATION = "INFORMATION"
    HOLD = "HOLD"
    CONFIRMATION = "CONFIRMATION"
    DECLINED = "DECLINED"


ONE_OPEN_CASE = "uq_fallout_case_open"


class FalloutCase(Aggregate, Base):
    """One trouble, named by `dedupe_key`: until its case is final, the same trouble opens no second one.

    `business_key` is set when the trouble is that of a process, and not of a step.
    """

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
        Index("ix_fallout_case_step", "tenant_id", "step_id"),
        Index("ix_fallout_case_of_no_order", "updated_at", "id", postgresql_where=text("order_id IS NULL")),
        ref("fulfillment_step", "step_id"),
        UniqueConstraint("tenant_id", "case_number"),
        Index(
            ONE_OPEN_CASE,
            "tenant_id",
            "dedupe_key",
            unique=True,
            postgresql_where=text("status NOT IN ('CLOSED', 'CANCELLED')"),
        ),
        ref("shown_form", of={"id": "subject_id"}),
        Index("ix_fallout_case_order", "tenant_id", "order_id"),
        Index("ix_fallout_case_status", "tenant_id", "status", "id"),
        Index("ix_fallout_case_queue", "tenant_id", "queue", "status", "id"),
        Index("ix_fallout_case_process", "tenant_id", "business_key", postgresql_where=text("business_key IS NOT NULL")),
        Index("ix_fallout_case_claimed", "tenant_id", "claim_expires_at", postgresql_where=text("status = 'IN_PROGRESS'")),
        Index("ix_fallout_case_untouched", "tenant_id", "created_at", postgresql_where=text(IS_OPEN)),
        Index(
            "ix_fallout_case_incident",
            "id",
            postgresql_where=text("type = 'WORKFLOW_INCIDENT' AND status NOT IN ('CLOSED', 'CANCELLED')"),
        ),
    )
    case_number: Mapped[str] = mapped_column(server_default=next_number("F"))
    order_id: Mapped[UUID | None]
    step_id: Mapped[UUID | None]
    type: Mapped[str]
    severity: Mapped[str]
    queue: Mapped[str]
    detail: Mapped[str]
    evidence: Mapped[dict[str, Any]]
    dedupe_key: Mapped[str]
    business_key: Mapped[str | None]
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
    shown_form_id: Mapped[UUID | None]


class ResolutionProposal(Owned, Base):
    """A resolution that a second person must confirm, exactly as the first has proposed it, with what the first was shown.

    It holds while the case stays at `case_version`. `roles` are those in which the first person acted.
    """

    __tablename__ = "resolution_proposal"
    __table_args__ = (
        ref("fallout_case", "case_id"),
        UniqueConstraint("tenant_id", "case_id", "id"),
        ref("shown_form", of={"case_id": "subject_id"}),
    )
    case_id: Mapped[UUID]
    case_version: Mapped[int] = mapped_column(BigInteger)
    step_version: Mapped[int | None] = mapped_column(BigInteger)
    resolution: Mapped[str]
    external_ref: Mapped[str]
    evidence: Mapped[str]
    proposed_by: Mapped[str]
    roles: Mapped[list[Any]]
    shown_form_id: Mapped[UUID | None]


append_only(ResolutionProposal)


class FalloutNote(Owned, Base):
    """Something a person wrote to a case; a CONFIRMATION names the proposal that a second person confirms, and the reference in it."""

    __tablename__ = "fallout_note"
    __table_args__ = (
        check_in("kind", NoteKind),
        CheckConstraint("(kind = 'CONFIRMATION') = (external_ref IS NOT NULL)", name="confirmation"),
        ref("fallout_case", "case_id"),
        Index("ix_fallout_note_case", "tenant_id", "case_id"),
        ref("resolution_proposal", "proposal_id", of={"case_id": "case_id"}),
    )
    case_id: Mapped[UUID]
    kind: Mapped[str]
    author: Mapped[str]
    text: Mapped[str]
    external_ref: Mapped[str | None]
    proposal_id: Mapped[UUID | None]


append_only(FalloutNote)


def business_key(tenant_id: UUID, case_id: UUID) -> str:
    """The engine's name for a case."""
    return key_of(Kind.FALLOUT_CASE, tenant_id, case_id)


def resolution_key(tenant_id: UUID, case_id: UUID) -> str:
    """The engine's name for the process that asks a person about a case."""
    return key_of(Kind.RESOLUTION, tenant_id, case_id)


def calling_keys(uow: UnitOfWork, case_id: UUID) -> tuple[str, ...]:
    """The business keys of the processes that may ask a person about a case."""
    return (business_key(uow.tenant_id, case_id),)
