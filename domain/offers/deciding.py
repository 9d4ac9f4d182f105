"""Deciding on an offer: a signature for one revision at one price, within the authority of the signer (docs/domain.md#approvals).

A decision locks the quote first, so the last two approvers cannot both see the other signature as missing. It keeps what the signer was shown,
and is refused when that has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Row, exists, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import aliased

from domain.authority import AuthorityGrant, active_now, granted_roles
from domain.offers import approvals, facts
from domain.offers.approvals import (
    REQUEST_MATRIX,
    REQUIREMENT_MATRIX,
    ApprovalAlreadyDecided,
    ApprovalDecision,
    ApprovalRequest,
    ApprovalRequirement,
    AuthorityExceeded,
    Decision,
    EarlierLevelOpen,
    FourEyesViolation,
    RequestEvent,
    RequestStatus,
    RequirementEvent,
    RequirementStatus,
    StaleApproval,
    void_pending,
)
from domain.offers.prices import PriceResult
from domain.offers.quotes import QUOTE_MATRIX, Quote, QuoteEvent
from domain.store import Guard, Move, UnitOfWork, as_json, is_one_of, param, table_of
from domain.store.facts import WorkflowCommandKind
from domain.workflows import forms
from domain.workflows.instances import NotThisProcess, acts_for

IS_CURRENT_REVISION = Quote.current_revision_id == param("quote_revision_id")
APPROVAL_OF_CURRENT_REVISION = Guard(StaleApproval, IS_CURRENT_REVISION)
QUOTE_OUTCOME = {
    Decision.APPROVE: Move(Quote, QUOTE_MATRIX, QuoteEvent.APPROVE, APPROVAL_OF_CURRENT_REVISION, emits="QuoteApproved"),
    Decision.REJECT: Move(Quote, QUOTE_MATRIX, QuoteEvent.REJECT, APPROVAL_OF_CURRENT_REVISION, emits="QuoteRejected"),
    Decision.REWORK: Move(Quote, QUOTE_MATRIX, QuoteEvent.REWORK, APPROVAL_OF_CURRENT_REVISION, emits="QuoteReworkRequired"),
}
REQUEST_OUTCOME = {
    Decision.APPROVE: Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.APPROVE),
    Decision.REJECT: Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.REJECT),
    Decision.REWORK: Move(ApprovalRequest, REQUEST_MATRIX, RequestEvent.REWORK),
}

OF_THIS_OFFER = exists(
    select(ApprovalRequest.id).where(
        ApprovalRequest.tenant_id == ApprovalRequirement.tenant_id,
        ApprovalRequest.id == ApprovalRequirement.request_id,
        ApprovalRequest.quote_revision_id == param("quote_revision_id"),
        ApprovalRequest.price_result_id == param("price_result_id"),
        ApprovalRequest.status == RequestStatus.OPEN,
    )
)
NOT_THE_OWNER = ~exists(
    select(Quote.id)
    .join(ApprovalRequest, (ApprovalRequest.tenant_id == Quote.tenant_id) & (ApprovalRequest.quote_id == Quote.id))
    .where(
        ApprovalRequest.tenant_id == ApprovalRequirement.tenant_id,
        ApprovalRequest.id == ApprovalRequirement.request_id,
        Quote.owner_user_id == param("decided_by"),
    )
)
EARLIER = aliased(ApprovalRequirement, name="earlier")
# Sound because `decide` has locked the quote: no other requirement of the request changes meanwhile.
EARLIER_LEVEL_PENDING = exists(
    select(EARLIER.id).where(
        EARLIER.tenant_id == ApprovalRequirement.tenant_id,
        EARLIER.request_id == ApprovalRequirement.request_id,
        EARLIER.level < ApprovalRequirement.level,
        EARLIER.status == RequirementStatus.PENDING,
    )
)
DECIDED = (RequirementStatus.APPROVED, RequirementStatus.REJECTED, RequirementStatus.REWORK)
NO_LONGER_ASKED = {RequirementStatus.INVALIDATED: StaleApproval, **dict.fromkeys(DECIDED, ApprovalAlreadyDecided)}


def reaching(signer: ColumnElement[str], product_family: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a grant of the signer covers a requirement: its role, region, product family, discount, amount and time.

    A grant that the quote's owner has delegated does not: the owner would sign by another hand.
    """
    grant = AuthorityGrant
    return exists(
        select(ApprovalRequest.id)
        .join(Quote, (Quote.tenant_id == ApprovalRequest.tenant_id) & (Quote.id == ApprovalRequest.quote_id))
        .join(
            PriceResult, (PriceResult.tenant_id == ApprovalRequest.tenant_id) & (PriceResult.id == ApprovalRequest.price_result_id)
        )
        .where(
            ApprovalRequest.tenant_id == ApprovalRequirement.tenant_id,
            ApprovalRequest.id == ApprovalRequirement.request_id,
            grant.tenant_id == ApprovalRequirement.tenant_id,
            grant.subject == signer,
            grant.role == ApprovalRequirement.approver_group,
            *active_now(),
            func.coalesce(grant.region == Quote.region, true()),
            func.coalesce(grant.product_family == product_family, true()),
            grant.max_discount_percent >= ApprovalRequirement.min_authority,
            func.coalesce(grant.max_deal_amount >= PriceResult.net_total, true()),
            func.coalesce(grant.delegated_by != Quote.owner_user_id, true()),
        )
        .correlate(ApprovalRequirement, AuthorityGrant)
    )


REACHING = reaching(param("decided_by"), param("product_family"))
GRANT, REQUIREMENT = table_of(AuthorityGrant), table_of(ApprovalRequirement)
NO_GRANT = UUID(int=0)
REUSED = "REUSED"
TASK = "approve-quote"
"""The user task of a signature, by its id in the model."""

DECIDE_GUARDS = (
    Guard(NotThisProcess, acts_for(ApprovalRequirement.id)),
    Guard(ApprovalAlreadyDecided, ~is_one_of(ApprovalRequirement.status, *DECIDED)),
    Guard(StaleApproval, OF_THIS_OFFER),
    # An approver who has read the requirement over HTTP names its version; a form is bound by the facts that it showed (`forms.answer`).
    Guard(StaleApproval, func.coalesce(ApprovalRequirement.version == param("expected_version", BigInteger()), true())),
    Guard(EarlierLevelOpen, ~EARLIER_LEVEL_PENDING),
    Guard(FourEyesViolation, NOT_THE_OWNER),
    Guard(AuthorityExceeded, ApprovalRequirement.approver_group == func.any(param("roles", ARRAY(TEXT)))),
    # Sound because `_lock_grant` has found the grant and locked it.
    Guard(AuthorityExceeded, exists(select(AuthorityGrant.id).where(AuthorityGrant.id == param("grant_id"), REACHING))),
)
DECIDE = {
    decision: Move(ApprovalRequirement, REQUIREMENT_MATRIX, event, *DECIDE_GUARDS, emits="ApprovalDecided")
    for decision, event in (
        (Decision.APPROVE, RequirementEvent.APPROVE),
        (Decision.REJECT, RequirementEvent.REJECT),
        (Decision.REWORK, RequirementEvent.REWORK),
    )
}

ASK_AGAIN = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.ASK_AGAIN,
    sets={ApprovalRequirement.refusal_notice: param("refusal_notice")},
    illegal=NO_LONGER_ASKED,
)
# Half of the time lies between reminder and deadline.
HALF = ApprovalRequirement.due_at - ApprovalRequirement.remind_at
BEGIN = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.BEGIN,
    sets={
        ApprovalRequirement.remind_at: func.clock_timestamp() + HALF,
        ApprovalRequirement.due_at: func.clock_timestamp() + HALF + HALF,
    },
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """A signature: by whom, with which roles, on exactly which revision and price. `approval_task_id` names the task that it completes.

    From Tasklist it names the process instance that asked for it, and the form that was shown; over HTTP both are None.
    `basis_decision_id` names the earlier decision that an approval carries over from; only `approving` sets it.
    """

    requirement_id: UUID
    quote_revision_id: UUID
    price_result_id: UUID
    decision: Decision
    reason_code: str
    decided_by: str
    roles: Sequence[str]
    approval_task_id: str
    comment: str | None = None
    expected_version: int | None = None
    process_instance_id: str | None = None
    shown_form_id: UUID | None = None
    basis_decision_id: UUID | None = None


def decide(uow: UnitOfWork, command: Decide) -> Row[Any]:
    """Record a signature; the last approval, or the first other decision, settles request and quote. Returns the requirement.

    With the last signature of a level the time of the next level begins. Raises the refusals of DECIDE, and FormChanged.
    """
    requirement = uow.read(ApprovalRequirement, command.requirement_id)
    request = uow.read(ApprovalRequest, requirement.request_id)
    uow.read(Quote, request.quote_id, lock=True)
    shown = facts.shown_to_approver(uow, requirement, request)
    family = shown.offer.product_family
    grant = _lock_grant(uow, command, family)
    decided = _apply(uow, command, requirement, grant_id=grant.id if grant else NO_GRANT, product_family=family)
    form_id = None if command.basis_decision_id else forms.answer(uow, decided.id, shown.as_evidence(), command.shown_form_id)
    _record(uow, command, request, decided, grant, form_id)
    if command.decision is not Decision.APPROVE:
        void_pending(uow, request.id)
    pending = _pending(uow, request.id)
    if not pending:
        uow.apply(REQUEST_OUTCOME[command.decision], request_id=request.id)
        uow.apply(QUOTE_OUTCOME[command.decision], quote_id=request.quote_id, quote_revision_id=request.quote_revision_id)
    elif pending[0].level > decided.level:
        _begin(uow, pending)
    return decided


def _apply(uow: UnitOfWork, command: Decide, requirement: Row[Any], **facts: Any) -> Row[Any]:
    try:
        return uow.apply(DECIDE[command.decision], command, announce=False, **facts)  # `_record` announces it
    except AuthorityExceeded as refusal:
        role = requirement.approver_group
        if role not in command.roles:
            refusal.args = (f"This needs the role {role}, and you do not have it.",)
        elif not granted_roles(uow, command.decided_by, [role]):
            refusal.args = (f"You have no authority grant for the role {role}: ask an administrator for one.",)
        raise


def _lock_grant(uow: UnitOfWork, command: Decide, product_family: str) -> Row[Any] | None:
    """The widest grant that reaches, locked until commit: a transaction that revokes it waits until the signature is recorded."""
    query = (
        select(*GRANT.c)
        .join(REQUIREMENT, REQUIREMENT.c.tenant_id == GRANT.c.tenant_id)
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.id == command.requirement_id)
        .where(reaching(literal(command.decided_by), literal(product_family)))
        .order_by(GRANT.c.max_discount_percent.desc(), GRANT.c.id)
        .limit(1)
    )
    return uow.connection.execute(query.with_for_update(read=True, of=GRANT)).one_or_none()


def _record(  # noqa: PLR0917 - what one row is made of
    uow: UnitOfWork, command: Decide, request: Row[Any], decided: Row[Any], grant: Any, form_id: UUID | None
) -> None:
    """Keep the decision as evidence, and announce it: the event carries the decision beside its requirement."""
    limits = ("role", "region", "product_family", "max_discount_percent", "max_deal_amount", "delegated_by")
    snapshot = {"grant_id": grant.id, **{name: getattr(grant, name) for name in limits}, "min_authority": decided.min_authority}
    told = {
        "quote_id": request.quote_id,
        "decision": REUSED if command.basis_decision_id else command.decision,
        **{name: getattr(command, name) for name in ("quote_revision_id", "price_result_id", "decided_by", "reason_code")},
    }
    [decision_id] = uow.add(
        ApprovalDecision,
        {
            "requirement_id": decided.id,
            "shown_form_id": form_id,
            "authority_snapshot": as_json({**snapshot, "roles": list(command.roles)}),
            "created_at": decided.updated_at,
            **told,
            **{name: getattr(command, name) for name in ("comment", "approval_task_id", "basis_decision_id")},
        },
    )
    uow.emit("approval_requirement", decided, "ApprovalDecided", approval_decision_id=decision_id, **told)


def _pending(uow: UnitOfWork, request_id: UUID) -> Sequence[Row[Any]]:
    pending = select(*(REQUIREMENT.c[name] for name in ("id", "level"))).order_by(REQUIREMENT.c.level, REQUIREMENT.c.id)
    of_request = {"tenant_id": uow.tenant_id, "request_id": request_id, "status": RequirementStatus.PENDING}
    return uow.connection.execute(pending.filter_by(**of_request)).all()


def _begin(uow: UnitOfWork, pending: Sequence[Row[Any]]) -> None:
    """Ask the next level: its time begins now, however long the level before has taken."""
    for row in pending:
        if row.level == pending[0].level:
            uow.apply(BEGIN, requirement_id=row.id)


def ask_again(uow: UnitOfWork, requirement_id: UUID, notice: str) -> Row[Any]:
    """Tell the approvers of a requirement why the last decision was not accepted. Raises StaleApproval, ApprovalAlreadyDecided."""
    return uow.apply(ASK_AGAIN, requirement_id=requirement_id, refusal_notice=notice)


def complete_approval_task(uow: UnitOfWork, requirement: Row[Any], command: Decide) -> None:
    """Complete the user task of a decision that was made outside the engine, so that the process goes on."""
    key = approvals.business_key(uow.tenant_id, requirement.id)
    variables = {"decision": command.decision, "reason_code": command.reason_code, "comment": command.comment or ""}
    uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, TASK, key, variables)
