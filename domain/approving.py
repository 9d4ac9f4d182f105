"""Approving an offer: which facts the policy looks at, which signatures it asks for, who gave them.

A decision is recorded while the quote's row is held, so the last two approvers cannot both see the other one as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, exists, func, select, true
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.orm import aliased

from domain import prices, quotes
from domain.approvals import (
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
from domain.catalog import CATALOG
from domain.prices import PriceResult, StalePrice
from domain.quotes import QUOTE_MATRIX, Line, Quote, QuoteEvent, QuoteRevision, StaleRevision
from domain.store import Check, Guard, Move, UnitOfWork, param, table_of
from domain.store.facts import WorkflowCommandKind

CURRENT = Quote.current_revision_id == param("quote_revision_id")
PRICED_SO = exists(
    select(QuoteRevision.id).where(
        QuoteRevision.tenant_id == Quote.tenant_id,
        QuoteRevision.id == Quote.current_revision_id,
        QuoteRevision.price_result_id == param("price_result_id"),
    )
)
UNDECIDED_REVISION = Guard(StaleApproval, CURRENT)

FACTS = Check(Quote, "approval_facts", Guard(StaleRevision, CURRENT), Guard(StalePrice, PRICED_SO))
OPEN_REQUIREMENTS = Move(
    Quote, QUOTE_MATRIX, QuoteEvent.OPEN_REQUIREMENTS, UNDECIDED_REVISION, illegal=dict.fromkeys(QUOTE_MATRIX.states, StaleApproval)
)
NONE_REQUIRED = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.NONE_REQUIRED,
    UNDECIDED_REVISION,
    emits="QuoteApproved",
    illegal=dict.fromkeys(QUOTE_MATRIX.states, StaleApproval),
)
QUOTE_OUTCOME = {
    Decision.APPROVE: Move(Quote, QUOTE_MATRIX, QuoteEvent.APPROVE, UNDECIDED_REVISION, emits="QuoteApproved"),
    Decision.REJECT: Move(Quote, QUOTE_MATRIX, QuoteEvent.REJECT, UNDECIDED_REVISION, emits="QuoteRejected"),
    Decision.REWORK: Move(Quote, QUOTE_MATRIX, QuoteEvent.REWORK, UNDECIDED_REVISION, emits="QuoteReworkRequired"),
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
# Sound because whoever decides holds the quote's row: no other requirement of the request changes meanwhile.
EARLIER_LEVEL_PENDING = exists(
    select(EARLIER.id).where(
        EARLIER.tenant_id == ApprovalRequirement.tenant_id,
        EARLIER.request_id == ApprovalRequirement.request_id,
        EARLIER.level < ApprovalRequirement.level,
        EARLIER.status == RequirementStatus.PENDING,
    )
)
DECIDED = (RequirementStatus.APPROVED, RequirementStatus.REJECTED, RequirementStatus.REWORK, RequirementStatus.WAIVED)
DECIDE_GUARDS = (
    Guard(ApprovalAlreadyDecided, ApprovalRequirement.status.not_in(DECIDED)),
    Guard(StaleApproval, OF_THIS_OFFER),
    # An approver who read the requirement names its version; a task form cannot, and is bound by revision and price alone.
    Guard(StaleApproval, func.coalesce(ApprovalRequirement.version == param("expected_version", BigInteger()), true())),
    Guard(EarlierLevelOpen, ~EARLIER_LEVEL_PENDING),
    Guard(FourEyesViolation, NOT_THE_OWNER),
    Guard(AuthorityExceeded, ApprovalRequirement.approver_group == func.any(param("roles", ARRAY(TEXT)))),
)
DECIDE = {
    Decision.APPROVE: Move(
        ApprovalRequirement, REQUIREMENT_MATRIX, RequirementEvent.APPROVE, *DECIDE_GUARDS, emits="ApprovalDecided"
    ),
    Decision.REJECT: Move(
        ApprovalRequirement, REQUIREMENT_MATRIX, RequirementEvent.REJECT, *DECIDE_GUARDS, emits="ApprovalDecided"
    ),
    Decision.REWORK: Move(
        ApprovalRequirement, REQUIREMENT_MATRIX, RequirementEvent.REWORK, *DECIDE_GUARDS, emits="ApprovalDecided"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFacts:
    """What the policy looks at. Percentages 0 to 100, money in the quote's currency."""

    quote: Row[Any]
    price: Row[Any]
    lines: Sequence[Line]
    product_family: str
    price_stale: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One signature that the policy asks for; `sla` is the time the approver has."""

    type: str
    level: int
    approver_group: str
    min_authority: Decimal
    sla: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequirements:
    """What the policy (`policy_definition_id`: the decision's id in the engine) asks for one revision and price."""

    quote_id: UUID
    quote_revision_id: UUID
    price_result_id: UUID
    policy_definition_id: str
    process_instance_id: str
    requirements: Sequence[Requirement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decide:
    """A signature: by whom, with which roles, on exactly which revision and price. `approval_task_id` names the task it answers."""

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


def collect_facts(uow: UnitOfWork, quote_id: UUID, quote_revision_id: UUID, price_result_id: UUID) -> ApprovalFacts:
    """What the policy needs to know. Raises StaleRevision, StalePrice when the quote has moved on."""
    quote = uow.require(FACTS, quote_id=quote_id, quote_revision_id=quote_revision_id, price_result_id=price_result_id)
    lines = quotes.read_lines(uow, quote_revision_id)
    price = uow.read(PriceResult, price_result_id)
    # The family that weighs most decides which product policy applies.
    families = [CATALOG.offerings[line.product_offering_id].product_family for line in lines]
    return ApprovalFacts(
        quote=quote,
        price=price,
        lines=lines,
        product_family=max(sorted(set(families)), key=families.count),
        price_stale=prices.is_stale(uow, price),
    )


def open_requirements(uow: UnitOfWork, command: OpenRequirements) -> Row[Any]:
    """Write down what the policy asks for; when it asks for nothing the quote is approved. Returns the request.

    Doing it again finds the same request. Raises StaleApproval when the quote has moved on.
    """
    uow.read(Quote, command.quote_id, lock=True)
    request = table_of(ApprovalRequest)
    known = select(*request.c).filter_by(tenant_id=uow.tenant_id, quote_revision_id=command.quote_revision_id)
    found = uow.connection.execute(known).one_or_none()
    if found is not None:
        return found
    uow.apply(OPEN_REQUIREMENTS if command.requirements else NONE_REQUIRED, command)
    names = ("quote_id", "quote_revision_id", "price_result_id", "policy_definition_id", "process_instance_id")
    opened = uow.create(
        ApprovalRequest,
        reason="OPEN",
        emits="ApprovalRequired",
        status=RequestStatus.OPEN,
        **{name: getattr(command, name) for name in names},
    )
    for requirement in command.requirements:
        _open_requirement(uow, opened.id, requirement)
    return opened if command.requirements else uow.apply(REQUEST_OUTCOME[Decision.APPROVE], request_id=opened.id)


def _open_requirement(uow: UnitOfWork, request_id: UUID, requirement: Requirement) -> None:
    uow.create(
        ApprovalRequirement,
        reason="OPEN",
        status=RequirementStatus.PENDING,
        request_id=request_id,
        type=requirement.type,
        level=requirement.level,
        approver_group=requirement.approver_group,
        min_authority=requirement.min_authority,
        due_at=uow.connection.scalar(select(func.clock_timestamp() + requirement.sla)),
    )


def decide(uow: UnitOfWork, command: Decide) -> Row[Any]:
    """Record a signature; the last one (or the first no) settles request and quote. Returns the requirement.

    Raises the refusals of DECIDE.
    """
    requirement = uow.read(ApprovalRequirement, command.requirement_id)
    request = uow.read(ApprovalRequest, requirement.request_id)
    uow.read(Quote, request.quote_id, lock=True)
    decided = uow.apply(DECIDE[command.decision], command)
    uow.add(
        ApprovalDecision,
        {
            "requirement_id": decided.id,
            "quote_id": request.quote_id,
            "authority_snapshot": {
                "roles": list(command.roles),
                "approverGroup": decided.approver_group,
                "minAuthority": str(decided.min_authority),
            },
            **{
                name: getattr(command, name)
                for name in (
                    "quote_revision_id",
                    "price_result_id",
                    "decision",
                    "decided_by",
                    "reason_code",
                    "comment",
                    "approval_task_id",
                )
            },
        },
    )
    if command.decision is not Decision.APPROVE:
        void_pending(uow, request.id)
    if not _pending(uow, request.id):
        uow.apply(REQUEST_OUTCOME[command.decision], request_id=request.id)
        uow.apply(QUOTE_OUTCOME[command.decision], quote_id=request.quote_id, quote_revision_id=request.quote_revision_id)
    return decided


def _pending(uow: UnitOfWork, request_id: UUID) -> bool:
    requirement = table_of(ApprovalRequirement)
    pending = select(requirement.c.id).filter_by(tenant_id=uow.tenant_id, request_id=request_id, status=RequirementStatus.PENDING)
    return bool(uow.connection.scalar(select(exists(pending))))


def tell_engine(uow: UnitOfWork, requirement: Row[Any], command: Decide) -> None:
    """A decision made outside the engine: complete its user task, so that the process goes on."""
    request = uow.read(ApprovalRequest, requirement.request_id)
    key = quotes.business_key(uow.tenant_id, request.quote_id, request.quote_revision_id)
    answers = {"decision": command.decision, "reason_code": command.reason_code, "comment": command.comment or ""}
    uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, str(requirement.id), key, answers)
