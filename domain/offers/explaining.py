"""Why an offer was approved, or was not: every request, every signature that it needs, and who gave it by which authority.

Reads only. It returns evidence: requests and requirements with their states, and decisions, which never change.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import and_, select

from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from domain.offers.prices import PriceResult
from domain.offers.quotes import Quote, QuoteRevision
from domain.store import UnitOfWork, as_json, table_of

REQUEST, REQUIREMENT, DECISION = (table_of(t) for t in (ApprovalRequest, ApprovalRequirement, ApprovalDecision))
REVISION, PRICE = table_of(QuoteRevision), table_of(PriceResult)

OF_REQUIREMENT = (
    "type",
    "level",
    "approver_group",
    "min_authority",
    "because",
    "status",
    "version",
    "escalation_level",
    "remind_at",
    "reminded_at",
    "due_at",
)
OF_DECISION = ("decision", "decided_by", "authority_snapshot", "reason_code", "comment", "basis_decision_id")


def approvals_of(uow: UnitOfWork, quote_id: UUID, limit: int, after: UUID | None) -> list[dict[str, Any]]:
    """The approval requests of a quote's revisions, the newest first, a page at a time. Raises NotFound."""
    uow.read(Quote, quote_id)
    number = select(REVISION.c.revision_no).join(REQUEST, _of_request(REVISION)).where(REQUEST.c.id == after)
    query = (
        select(
            REQUEST.c.id.label("request_id"),
            *(REQUEST.c[name] for name in ("version", "status", "quote_revision_id", "price_result_id", "policy_definition_id")),
            REVISION.c.revision_no,
            *(PRICE.c[name] for name in ("price_book_version", "net_total", "max_discount_percent", "margin_percent")),
            REQUEST.c.created_at,
            REQUEST.c.updated_at,
        )
        .join(REVISION, _of_request(REVISION))
        .join(PRICE, and_(PRICE.c.tenant_id == REQUEST.c.tenant_id, PRICE.c.id == REQUEST.c.price_result_id))
        .where(REVISION.c.tenant_id == uow.tenant_id, REVISION.c.quote_id == quote_id)
        .order_by(REVISION.c.revision_no.desc())
        .limit(limit)
    )
    query = query.where(REVISION.c.revision_no < number.scalar_subquery()) if after else query
    requests = uow.connection.execute(query).all()
    requirements = _requirements(uow, [request.request_id for request in requests])
    return [as_json({**request._mapping, "requirements": requirements[request.request_id]}) for request in requests]


def _of_request(revision: Any) -> Any:
    return and_(revision.c.tenant_id == REQUEST.c.tenant_id, revision.c.id == REQUEST.c.quote_revision_id)


def _requirements(uow: UnitOfWork, request_ids: Sequence[UUID]) -> Mapping[UUID, list[dict[str, Any]]]:
    query = (
        select(
            *REQUIREMENT.c,
            *(DECISION.c[name] for name in OF_DECISION),
            DECISION.c.id.label("decision_id"),
            DECISION.c.created_at.label("decided_at"),
        )
        .outerjoin(DECISION, and_(DECISION.c.tenant_id == REQUIREMENT.c.tenant_id, DECISION.c.requirement_id == REQUIREMENT.c.id))
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.request_id.in_(request_ids))
        .order_by(REQUIREMENT.c.level, REQUIREMENT.c.type)
    )
    found: defaultdict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in uow.connection.execute(query):
        found[row.request_id].append({"requirement_id": row.id, **_of(row, OF_REQUIREMENT), "decision": _decision(row)})
    return found


def _decision(row: Any) -> dict[str, Any] | None:
    return {"decision_id": row.decision_id, "decided_at": row.decided_at, **_of(row, OF_DECISION)} if row.decision_id else None


def _of(row: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}
