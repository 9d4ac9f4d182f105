"""What was approved before on the same quote: a new revision is compared with it, and its signatures may carry over.

Whether they do is a rule of the process owner (DMN `reapproval-reuse`); what may carry over is found here
(docs/decisions/0010-a-signature-carries-over-through-the-same-guards.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, or_, select

from domain.offers import quotes
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement, RequestStatus
from domain.offers.prices import PriceResult
from domain.offers.quotes import Line, QuoteRevision
from domain.store import UnitOfWork, table_of

REQUEST, REQUIREMENT, DECISION = (table_of(t) for t in (ApprovalRequest, ApprovalRequirement, ApprovalDecision))
REVISION = table_of(QuoteRevision)
CARRYING = ("APPROVE", "REUSED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precedent:
    """The last approved revision of a quote. `age_days` counts from the oldest of its signatures, when a person gave it."""

    request_id: UUID
    revision_no: int
    lines: Sequence[Line]
    price: Row[Any]
    age_days: float | None


def find(uow: UnitOfWork, quote_id: UUID, before_revision_id: UUID) -> Precedent | None:
    """The last revision of a quote, other than this one, that was approved; None when there is none."""
    was_approved = or_(
        REQUEST.c.status == RequestStatus.APPROVED,
        # Superseded meanwhile: void for acceptance, but still the last approved content.
        (REQUEST.c.status == RequestStatus.INVALIDATED) & (REQUEST.c.prior_status == RequestStatus.APPROVED),
    )
    query = (
        select(REQUEST.c.id, REQUEST.c.quote_revision_id, REQUEST.c.price_result_id, REVISION.c.revision_no)
        .join(REVISION, and_(REVISION.c.tenant_id == REQUEST.c.tenant_id, REVISION.c.id == REQUEST.c.quote_revision_id))
        .where(REVISION.c.tenant_id == uow.tenant_id, REVISION.c.quote_id == quote_id, was_approved)
        .where(REQUEST.c.quote_revision_id != before_revision_id)
        .order_by(REVISION.c.revision_no.desc())
        .limit(1)
    )
    row = uow.connection.execute(query).one_or_none()
    if row is None:
        return None
    return Precedent(
        request_id=row.id,
        revision_no=row.revision_no,
        lines=quotes.read_lines(uow, row.quote_revision_id),
        price=uow.read(PriceResult, row.price_result_id),
        age_days=_age_days(uow, row.id),
    )


def signatures(uow: UnitOfWork, request_id: UUID) -> Sequence[Any]:
    """The approvals of a request. `basis_id` is the decision that a person made, for a reused one as well."""
    query = (
        select(
            *(REQUIREMENT.c[name] for name in ("type", "level", "approver_group")),
            DECISION.c.decided_by,
            DECISION.c.reason_code,
            func.coalesce(DECISION.c.basis_decision_id, DECISION.c.id).label("basis_id"),
        )
        .join(DECISION, and_(DECISION.c.tenant_id == REQUIREMENT.c.tenant_id, DECISION.c.requirement_id == REQUIREMENT.c.id))
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.request_id == request_id, DECISION.c.decision.in_(CARRYING))
    )
    return uow.connection.execute(query).all()


def decisions(uow: UnitOfWork, quote_id: UUID) -> Sequence[Row[Any]]:
    """Every decision on a quote, of all its revisions, oldest first."""
    names = ("decision", "decided_by", "reason_code", "comment", "authority_snapshot", "basis_decision_id", "created_at")
    query = (
        select(
            REVISION.c.revision_no,
            REQUIREMENT.c.id.label("requirement_id"),
            *(REQUIREMENT.c[name] for name in ("type", "level")),
            *(DECISION.c[name] for name in names),
        )
        .join(REQUIREMENT, and_(REQUIREMENT.c.tenant_id == DECISION.c.tenant_id, REQUIREMENT.c.id == DECISION.c.requirement_id))
        .join(REVISION, and_(REVISION.c.tenant_id == DECISION.c.tenant_id, REVISION.c.id == DECISION.c.quote_revision_id))
        .where(REVISION.c.tenant_id == uow.tenant_id, REVISION.c.quote_id == quote_id)
        .order_by(DECISION.c.created_at, DECISION.c.id)
    )
    return uow.connection.execute(query).all()


def _age_days(uow: UnitOfWork, request_id: UUID) -> float | None:
    basis = DECISION.alias("basis")
    made = func.min(basis.c.created_at)
    query = (
        select(func.extract("epoch", func.clock_timestamp() - made) / 86400)
        .select_from(DECISION)
        .join(REQUIREMENT, and_(REQUIREMENT.c.tenant_id == DECISION.c.tenant_id, REQUIREMENT.c.id == DECISION.c.requirement_id))
        .join(
            basis,
            and_(
                basis.c.tenant_id == DECISION.c.tenant_id, basis.c.id == func.coalesce(DECISION.c.basis_decision_id, DECISION.c.id)
            ),
        )
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.request_id == request_id)
    )
    age = uow.connection.execute(query).scalar_one()
    return None if age is None else float(age)
