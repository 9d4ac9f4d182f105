"""Approving an offer: the facts that the policy decides by, and the signatures that it demands.

The policy belongs to the process owner (DMN `approval-requirements`, `reapproval-reuse`). Its result is recorded here, once for each revision.
Signatures that carry over from an earlier revision pass the same guards as new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Row, exists, func, select

from domain.errors import Forbidden
from domain.offers import facts, precedents
from domain.offers.approvals import (
    ApprovalRequest,
    ApprovalRequirement,
    Decision,
    EarlierLevelOpen,
    RequestStatus,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.deciding import APPROVAL_OF_CURRENT_REVISION, IS_CURRENT_REVISION, REQUEST_OUTCOME, Decide, decide
from domain.offers.facts import ApprovalFacts
from domain.offers.prices import StalePrice
from domain.offers.quotes import QUOTE_MATRIX, Quote, QuoteEvent, QuoteRevision, StaleRevision
from domain.store import Check, Guard, Move, UnitOfWork, param, table_of

IS_CURRENT_PRICE = exists(
    select(QuoteRevision.id).where(
        QuoteRevision.tenant_id == Quote.tenant_id,
        QuoteRevision.id == Quote.current_revision_id,
        QuoteRevision.price_result_id == param("price_result_id"),
    )
)
FACTS = Check(Quote, "approval_facts", Guard(StaleRevision, IS_CURRENT_REVISION), Guard(StalePrice, IS_CURRENT_PRICE))
# The process handles one refusal only: the revision that it is about is not offered any more.
APPROVAL_OF_CURRENT_PRICE = Guard(StaleApproval, IS_CURRENT_PRICE)
OPEN_REQUIREMENTS = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.OPEN_REQUIREMENTS,
    APPROVAL_OF_CURRENT_REVISION,
    APPROVAL_OF_CURRENT_PRICE,
    emits="QuoteApprovalStarted",
    illegal=dict.fromkeys(QUOTE_MATRIX.states, StaleApproval),
)
NONE_REQUIRED = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.NONE_REQUIRED,
    APPROVAL_OF_CURRENT_REVISION,
    APPROVAL_OF_CURRENT_PRICE,
    emits="QuoteApproved",
    illegal=dict.fromkeys(QUOTE_MATRIX.states, StaleApproval),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One signature that the policy demands, `because` of a rule; `sla` is the time that the approver has."""

    type: str
    level: int
    approver_group: str
    min_authority: Decimal
    because: str
    sla: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequirements:
    """What the policy (`policy_definition_id`: the decision's id in the engine) demands for one revision and price.

    `reuse`: the policy lets signatures of the last approved revision carry over.
    """

    quote_id: UUID
    quote_revision_id: UUID
    price_result_id: UUID
    policy_definition_id: str
    process_instance_id: str
    requirements: Sequence[Requirement]
    reuse: bool = False


def collect_facts(uow: UnitOfWork, quote_id: UUID, quote_revision_id: UUID, price_result_id: UUID) -> ApprovalFacts:
    """Collect what the policy decides by. Raises StaleRevision, StalePrice when the quote has moved on."""
    uow.require(FACTS, quote_id=quote_id, quote_revision_id=quote_revision_id, price_result_id=price_result_id)
    return facts.read(uow, quote_id, quote_revision_id, price_result_id)


def open_requirements(uow: UnitOfWork, command: OpenRequirements) -> Row[Any]:
    """Record what the policy demands; when it demands no signature, the quote is approved. Returns the request.

    A repeat returns the same request. Raises StaleApproval when the quote has moved on, or is offered at another price.
    """
    uow.read(Quote, command.quote_id, lock=True)
    request = table_of(ApprovalRequest)
    known = select(*request.c).filter_by(tenant_id=uow.tenant_id, quote_revision_id=command.quote_revision_id)
    found = uow.connection.execute(known).one_or_none()
    if found is not None:
        uow.summary.repeat("approval_request", found)
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
    if not command.requirements:
        return uow.apply(REQUEST_OUTCOME[Decision.APPROVE], request_id=opened.id)
    _open_levels(uow, opened.id, command.requirements)
    if command.reuse:
        _carry_over(uow, command, opened.id)
    return uow.read(ApprovalRequest, opened.id)


def _open_levels(uow: UnitOfWork, request_id: UUID, requirements: Sequence[Requirement]) -> None:
    """A level is asked when the one before has signed. Until then its time is planned to follow the longest time of the levels before."""
    begins = uow.connection.execute(select(func.clock_timestamp())).scalar_one()
    ordered = sorted(requirements, key=lambda requirement: requirement.level)
    for _, level in groupby(ordered, key=lambda requirement: requirement.level):
        of_level = list(level)
        for requirement in of_level:
            uow.create(
                ApprovalRequirement,
                reason="OPEN",
                status=RequirementStatus.PENDING,
                request_id=request_id,
                remind_at=begins + requirement.sla / 2,
                due_at=begins + requirement.sla,
                **{name: getattr(requirement, name) for name in ("type", "level", "approver_group", "min_authority", "because")},
            )
        begins += max(requirement.sla for requirement in of_level)


def _carry_over(uow: UnitOfWork, command: OpenRequirements, request_id: UUID) -> None:
    """Let earlier signatures count again, by the same people, if their authority still reaches; the others stay pending."""
    precedent = precedents.find(uow, command.quote_id, command.quote_revision_id)
    earlier = precedents.signatures(uow, precedent.request_id) if precedent else ()
    signed = {(row.type, row.level, row.approver_group): row for row in earlier}
    requirement = table_of(ApprovalRequirement)
    requirements = select(*requirement.c).filter_by(tenant_id=uow.tenant_id, request_id=request_id)
    for row in uow.connection.execute(requirements.order_by(requirement.c.level, requirement.c.type)).all():
        basis = signed.get((row.type, row.level, row.approver_group))
        if basis is not None:
            _sign_again(uow, command, row, basis)


def _sign_again(uow: UnitOfWork, command: OpenRequirements, requirement: Row[Any], basis: Row[Any]) -> None:
    signature = Decide(
        requirement_id=requirement.id,
        quote_revision_id=command.quote_revision_id,
        price_result_id=command.price_result_id,
        decision=Decision.APPROVE,
        reason_code=basis.reason_code,
        decided_by=basis.decided_by,
        roles=(requirement.approver_group,),
        approval_task_id=f"reused:{requirement.id}",
        basis_decision_id=basis.basis_id,
    )
    try:
        decide(uow, signature)
    except (Forbidden, EarlierLevelOpen):
        return  # the signature does not carry over any more, so the requirement stays pending
