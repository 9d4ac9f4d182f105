"""Approval requests, their requirements and the decisions: evidence for one revision at one price (docs/domain.md#approvals).

No flag says that a quote is approved: an approval is the request of a revision in which every requirement is decided.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, Numeric, UniqueConstraint, event, select, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, Forbidden, SafeAction
from domain.store import Aggregate, Base, Matrix, Move, Owned, UnitOfWork, append_only, is_one_of, ref, table_of
from domain.store.base import ddl
from domain.workflows.keys import Kind, key_of


class StaleApproval(Conflict):
    """The approval is of another revision or price than the named one."""

    safe_action = SafeAction.REQUEST_APPROVAL


class ApprovalMissing(Conflict):
    """This revision and price have no approval."""

    safe_action = SafeAction.REQUEST_APPROVAL


class ApprovalAlreadyDecided(Conflict):
    """Somebody decided this requirement already."""

    safe_action = SafeAction.NOTHING_TO_DO


class AlreadyEscalated(Conflict):
    """This requirement was escalated before."""

    safe_action = SafeAction.NOTHING_TO_DO


class EarlierLevelOpen(Conflict):
    """A level before this one has not been decided."""

    safe_action = SafeAction.NOTHING_TO_DO


class FourEyesViolation(Forbidden):
    """The owner of a quote must not decide on it."""


class NotAsked(Forbidden):
    """You are not one of those who are asked for this signature."""


class AuthorityExceeded(Forbidden):
    """Your authority does not reach as far as this requirement demands."""


class Decision(StrEnum):
    """What an approver decides."""

    APPROVE = "APPROVE"
    REJECT = "REJECT"
    REWORK = "REWORK"


class RequestStatus(StrEnum):
    OPEN = "OPEN"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    REWORK = "REWORK"
    RECALLED = "RECALLED"
    INVALIDATED = "INVALIDATED"
    EXPIRED = "EXPIRED"


class RequestEvent(StrEnum):
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    REWORK = "REWORK"
    RECALL = "RECALL"
    INVALIDATE = "INVALIDATE"
    EXPIRE = "EXPIRE"


REQUEST_MATRIX = Matrix(
    RequestStatus,
    RequestEvent,
    moves={
        RequestEvent.APPROVE: {RequestStatus.OPEN: RequestStatus.APPROVED},
        RequestEvent.REJECT: {RequestStatus.OPEN: RequestStatus.REJECTED},
        RequestEvent.REWORK: {RequestStatus.OPEN: RequestStatus.REWORK},
        RequestEvent.RECALL: {RequestStatus.OPEN: RequestStatus.RECALLED},
        # An approved request becomes void, too, when its revision is superseded before an acceptance.
        RequestEvent.INVALIDATE: {
            RequestStatus.OPEN: RequestStatus.INVALIDATED,
            RequestStatus.APPROVED: RequestStatus.INVALIDATED,
        },
        RequestEvent.EXPIRE: {RequestStatus.OPEN: RequestStatus.EXPIRED},
    },
)


class RequirementStatus(StrEnum):
    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    REWORK = "REWORK"
    INVALIDATED = "INVALIDATED"


class RequirementEvent(StrEnum):
    APPROVE = "APPROVE"
    REJECT = "REJECT"
    REWORK = "REWORK"
    INVALIDATE = "INVALIDATE"
    BEGIN = "BEGIN"
    ESCALATE = "ESCALATE"
    HAND_ON = "HAND_ON"
    REMIND = "REMIND"
    ASK_AGAIN = "ASK_AGAIN"


REQUIREMENT_MATRIX = Matrix(
    RequirementStatus,
    RequirementEvent,
    moves={
        RequirementEvent.APPROVE: {RequirementStatus.PENDING: RequirementStatus.APPROVED},
        RequirementEvent.REJECT: {RequirementStatus.PENDING: RequirementStatus.REJECTED},
        RequirementEvent.REWORK: {RequirementStatus.PENDING: RequirementStatus.REWORK},
        RequirementEvent.INVALIDATE: {RequirementStatus.PENDING: RequirementStatus.INVALIDATED},
        # The time of a requirement begins when the level before has signed. An escalation, by the clock or by a person who
        # hands it on, changes who is asked and until when; a reminder
        # and a decision that is not accepted only record themselves: the signature is still missing.
        RequirementEvent.BEGIN: {RequirementStatus.PENDING: RequirementStatus.PENDING},
        RequirementEvent.ESCALATE: {RequirementStatus.PENDING: RequirementStatus.PENDING},
        RequirementEvent.HAND_ON: {RequirementStatus.PENDING: RequirementStatus.PENDING},
        RequirementEvent.REMIND: {RequirementStatus.PENDING: RequirementStatus.PENDING},
        RequirementEvent.ASK_AGAIN: {RequirementStatus.PENDING: RequirementStatus.PENDING},
    },
)


class ApprovalRequest(Aggregate, Base):
    """One question to the approvers: may this revision be offered at this price? A revision has at most one OPEN request."""

    ID_FIELD = "request_id"
    __tablename__ = "approval_request"
    __table_args__ = (
        REQUEST_MATRIX.check_status(),
        ref("quote_revision", of={"quote_id": "quote_id"}),
        ref("price_result", of={"quote_revision_id": "revision_id"}),
        # Lets an acceptance prove by a foreign key that its approval is of its revision.
        UniqueConstraint("tenant_id", "quote_revision_id", "id"),
        Index("uq_approval_request_open", "tenant_id", "quote_revision_id", unique=True, postgresql_where=text("status = 'OPEN'")),
    )
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    price_result_id: Mapped[UUID]
    policy_definition_id: Mapped[str]
    process_instance_id: Mapped[str | None]


class ApprovalRequirement(Aggregate, Base):
    """One signature that is needed. `min_authority` is the discount in percent that the signer's authority must reach.

    `because` is the sentence of the rule that demands it; the approvers that are asked now are reminded at `remind_at`, and have until `due_at`.
    The notices tell them why they are asked now, and why the last decision was not accepted.
    """

    ID_FIELD = "requirement_id"
    __tablename__ = "approval_requirement"
    __table_args__ = (
        REQUIREMENT_MATRIX.check_status(),
        ref("approval_request", "request_id"),
        UniqueConstraint("tenant_id", "request_id", "type", "level"),
        Index("ix_approval_requirement_pending", "tenant_id", "due_at", "id", postgresql_where=text("status = 'PENDING'")),
    )
    request_id: Mapped[UUID]
    type: Mapped[str]
    level: Mapped[int]
    approver_group: Mapped[str]
    min_authority: Mapped[Decimal] = mapped_column(Numeric(5, 2))
    because: Mapped[str]
    remind_at: Mapped[datetime]
    reminded_at: Mapped[datetime | None]
    due_at: Mapped[datetime]
    escalation_level: Mapped[int] = mapped_column(server_default="0")
    escalation_notice: Mapped[str | None]
    refusal_notice: Mapped[str | None]
    camunda_task_id: Mapped[str | None]


class ApprovalDecision(Owned, Base):
    """Who decided what, on which revision and price, with which authority. One for each requirement, never changed.

    `shown_form_id` is what the person was shown. REUSED is an approval that carries over from an earlier decision (`basis_decision_id`), because the offer became no worse.
    """

    __tablename__ = "approval_decision"
    __table_args__ = (
        ref("approval_requirement", "requirement_id"),
        ref("quote_revision", of={"quote_id": "quote_id"}),
        ref("price_result", of={"quote_revision_id": "revision_id"}),
        UniqueConstraint("tenant_id", "requirement_id"),
        UniqueConstraint("tenant_id", "approval_task_id"),
        ref("shown_form", of={"requirement_id": "subject_id"}),
        ref("approval_decision", "basis_decision_id"),
        Index("ix_approval_decision_revision", "tenant_id", "quote_revision_id"),
        Index("ix_approval_decision_basis", "tenant_id", "basis_decision_id"),
        CheckConstraint("decision IN ('APPROVE', 'REJECT', 'REWORK', 'REUSED')", name="decision"),
        CheckConstraint("(decision = 'REUSED') = (basis_decision_id IS NOT NULL)", name="basis"),
        Index("ix_approval_decision_made", "created_at", "id"),
    )
    requirement_id: Mapped[UUID]
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    price_result_id: Mapped[UUID]
    decision: Mapped[str]
    decided_by: Mapped[str]
    authority_snapshot: Mapped[dict[str, Any]]
    reason_code: Mapped[str]
    comment: Mapped[str | None]
    approval_task_id: Mapped[str]
    basis_decision_id: Mapped[UUID | None]
    shown_form_id: Mapped[UUID | None]


append_only(ApprovalDecision)

# Four eyes also for a statement that somebody types by hand (ASVS 5.0, V2.3.5).
FOUR_EYES = ddl("""
CREATE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The quote that is asked about counts, whichever one the decision names.
    IF EXISTS (
        SELECT FROM approval_requirement requirement
        JOIN approval_request request ON request.tenant_id = requirement.tenant_id AND request.id = requirement.request_id
        JOIN quote ON quote.tenant_id = request.tenant_id AND quote.id IN (request.quote_id, NEW.quote_id)
        WHERE requirement.tenant_id = NEW.tenant_id AND requirement.id = NEW.requirement_id AND quote.owner_user_id = NEW.decided_by
    ) THEN
        RAISE EXCEPTION 'the owner of a quote does not decide on it' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER approval_decision_four_eyes BEFORE INSERT ON approval_decision
FOR EACH ROW EXECUTE FUNCTION refuse_own_approval()""")
event.listen(table_of(ApprovalDecision), "after_create", FOUR_EYES)

VOID_REQUEST = Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.INVALIDATE, emits="ApprovalInvalidated")
RECALL_REQUEST = Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.RECALL, emits="ApprovalInvalidated")
EXPIRE_REQUEST = Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.EXPIRE, emits="ApprovalInvalidated")
VOID_REQUIREMENT = Move(ApprovalRequirement, REQUIREMENT_MATRIX, RequirementEvent.INVALIDATE)


def close_request(uow: UnitOfWork, revision_id: UUID, ending: Move) -> None:
    """End the request of a revision by `ending`, and void what is pending in it; the caller has locked the quote."""
    request = table_of(ApprovalRequest)
    requests = select(request.c.id).filter_by(tenant_id=uow.tenant_id, quote_revision_id=revision_id)
    for row in uow.connection.execute(requests.where(is_one_of(request.c.status, *ending.targets))).all():
        uow.apply(ending, request_id=row.id)
        void_pending(uow, row.id)


def void_pending(uow: UnitOfWork, request_id: UUID) -> None:
    """Void the pending requirements of a request: no signature is needed any more. The caller has locked the quote."""
    requirement = table_of(ApprovalRequirement)
    pending = select(requirement.c.id).filter_by(tenant_id=uow.tenant_id, request_id=request_id, status=RequirementStatus.PENDING)
    for row in uow.connection.execute(pending.order_by(requirement.c.id)).all():
        uow.apply(VOID_REQUIREMENT, requirement_id=row.id)


def business_key(tenant_id: UUID, requirement_id: UUID) -> str:
    """The engine's name for one signature that is needed."""
    return key_of(Kind.APPROVAL_REQUIREMENT, tenant_id, requirement_id)


def calling_keys(uow: UnitOfWork, requirement_id: UUID) -> tuple[str, ...]:
    """The business keys of the processes that may ask for a signature: the approval of its revision. Raises NotFound."""
    request = uow.read(ApprovalRequest, uow.read(ApprovalRequirement, requirement_id).request_id)
    return (key_of(Kind.QUOTE_REVISION, uow.tenant_id, request.quote_id, request.quote_revision_id),)
