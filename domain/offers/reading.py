"""What people and processes see of offers. Reads only, of one tenant; no rule lives here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, and_, or_, select, tuple_

from domain.authority import GRANT
from domain.catalog import CATALOG
from domain.offers import approvals, quotes
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from domain.offers.deciding import EARLIER_LEVEL_PENDING
from domain.offers.documents import QuoteDocument
from domain.offers.price_books import ENTRY, HEAD, PUBLICATION
from domain.offers.prices import ConfigurationResult, PriceResult
from domain.offers.quotes import Quote
from domain.store import UnitOfWork, as_json, table_of, without
from domain.store.moves import param

QUOTE = table_of(Quote)
REQUEST, REQUIREMENT, DECISION = (table_of(t) for t in (ApprovalRequest, ApprovalRequirement, ApprovalDecision))
DOCUMENT, ACCEPTANCE = table_of(QuoteDocument), table_of(QuoteAcceptance)


def _made_of_a_revision() -> Select[Any]:
    """The ids of what there may be of a revision: its request, its last document, its order. An accepted quote stays at its accepted revision."""
    tenant, revision = param("tenant_id"), param("revision_id")
    request, document, order = (
        select(column).where(column.table.c.tenant_id == tenant, column.table.c.quote_revision_id == revision)
        for column in (REQUEST.c.id, DOCUMENT.c.id, ACCEPTANCE.c.order_id)
    )
    document = document.order_by(DOCUMENT.c.created_at.desc()).limit(1)
    return select(
        request.scalar_subquery().label("approval_request_id"),
        document.scalar_subquery().label("document_id"),
        order.scalar_subquery().label("order_id"),
    )


_MADE_OF_A_REVISION = _made_of_a_revision()


def quote(uow: UnitOfWork, quote_id: UUID) -> dict[str, Any]:
    """A quote with the ids that its next commands must name. Raises NotFound."""
    header = uow.read(Quote, quote_id)
    revision = quotes.read_revision(uow, header.current_revision_id)
    priced = uow.read(PriceResult, revision.price_result_id) if revision.price_result_id else None
    made_of_it = uow.one(_MADE_OF_A_REVISION, revision_id=revision.id)
    lines = [
        {name: getattr(line, name) for name in quotes.Line.__dataclass_fields__} for line in quotes.read_lines(uow, revision.id)
    ]
    configuration = uow.read(ConfigurationResult, revision.config_result_id)
    totals = ("price_book_version", "list_total", "net_total", "max_discount_percent", "margin_percent", "staleness_policy")
    body: dict[str, Any] = as_json(
        {
            **without(header, "tenant_id", "id", "prior_status", "current_revision_id"),
            "quote_id": header.id,
            "revision_id": revision.id,
            "revision_no": revision.revision_no,
            "revision_status": revision.status,
            "catalog_version": CATALOG.catalog_version,
            "config_result_id": revision.config_result_id,
            "price_result_id": revision.price_result_id,
            **made_of_it._mapping,
            "configuration": {name: getattr(configuration, name) for name in ("valid", "messages", "catalog_version")},
            "price": {name: getattr(priced, name) for name in totals} if priced else None,
            "lines": lines,
        }
    )
    return body


def approval_tasks(uow: UnitOfWork, roles: Sequence[str], limit: int, after: UUID | None = None) -> list[dict[str, Any]]:
    """Signatures that wait for somebody with one of these roles, a page at a time, the most urgent first."""
    urgency = (REQUIREMENT.c.due_at, REQUIREMENT.c.id)
    # The last row of the page before keeps its place when it is decided meanwhile.
    last = select(*urgency).where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.id == after).scalar_subquery()
    query = (
        select(
            REQUIREMENT.c.id.label("task_id"),
            REQUIREMENT.c.id.label("requirement_id"),
            REQUIREMENT.c.version.label("requirement_version"),
            *(REQUIREMENT.c[name] for name in ("type", "level", "approver_group", "min_authority", "due_at")),
            *(REQUEST.c[name] for name in ("quote_id", "quote_revision_id", "price_result_id")),
        )
        .join(REQUEST, and_(REQUEST.c.tenant_id == REQUIREMENT.c.tenant_id, REQUEST.c.id == REQUIREMENT.c.request_id))
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.status == approvals.RequirementStatus.PENDING)
        .where(
            REQUEST.c.status == approvals.RequestStatus.OPEN, REQUIREMENT.c.approver_group.in_(list(roles)), ~EARLIER_LEVEL_PENDING
        )
        .order_by(*urgency)
        .limit(limit)
    )
    query = query.where(tuple_(*urgency) > last) if after else query
    return [as_json(row._mapping) for row in uow.connection.execute(query)]


def requirement(uow: UnitOfWork, requirement_id: UUID) -> Row[Any]:
    """A requirement with its request's revision, price and status, and the decision if there is one. Raises NotFound."""
    query = (
        select(
            *REQUIREMENT.c,
            *(REQUEST.c[name] for name in ("quote_id", "quote_revision_id", "price_result_id")),
            REQUEST.c.status.label("request_status"),
            DECISION.c.decision,
        )
        .join(REQUEST, and_(REQUEST.c.tenant_id == REQUIREMENT.c.tenant_id, REQUEST.c.id == REQUIREMENT.c.request_id))
        .outerjoin(DECISION, and_(DECISION.c.tenant_id == REQUIREMENT.c.tenant_id, DECISION.c.requirement_id == REQUIREMENT.c.id))
        .where(REQUIREMENT.c.tenant_id == uow.tenant_id, REQUIREMENT.c.id == requirement_id)
    )
    return uow.one(query, "The approval requirement")


def requirements_of(uow: UnitOfWork, request_id: UUID) -> Sequence[Row[Any]]:
    """The signatures of a request, by level."""
    query = select(*REQUIREMENT.c).filter_by(tenant_id=uow.tenant_id, request_id=request_id)
    return uow.connection.execute(query.order_by(REQUIREMENT.c.level, REQUIREMENT.c.type)).all()


def request_of(uow: UnitOfWork, revision_id: UUID) -> Row[Any]:
    """The approval request of a revision. Raises NotFound."""
    query = select(*REQUEST.c).filter_by(tenant_id=uow.tenant_id, quote_revision_id=revision_id)
    return uow.one(query, "The approval request")


def price_book(uow: UnitOfWork, name: str) -> dict[str, Any]:
    """The active version of a price book with its prices and costs. Raises NotFound."""
    head = uow.one(select(*HEAD.c).filter_by(tenant_id=uow.tenant_id, price_book=name), f"Price book {name}")
    active = {"tenant_id": uow.tenant_id, "price_book": name, "price_book_version": head.active_version}
    entries = select(*ENTRY.c).filter_by(**active).order_by(ENTRY.c.product_offering_id)
    names = ("product_offering_id", "list_price", "unit_cost")
    body: dict[str, Any] = as_json(
        {
            **{name: getattr(head, name) for name in ("price_book", "active_version", "version", "published_at")},
            "material_offering_ids": uow.connection.scalar(select(PUBLICATION.c.material_offering_ids).filter_by(**active)),
            "entries": [{name: getattr(entry, name) for name in names} for entry in uow.connection.execute(entries)],
        }
    )
    return body


def grant(row: Row[Any]) -> dict[str, Any]:
    """An authority grant as people see it."""
    body: dict[str, Any] = as_json({"grant_id": row.id, **without(row, "tenant_id", "id", "prior_status")})
    return body


def grants_of(uow: UnitOfWork, subject: str | None, concerning: str | None, limit: int, after: UUID | None) -> list[dict[str, Any]]:
    """Authority grants of a subject (None: of all), a page at a time, ordered by id.

    `concerning` keeps only the grants that this person has, or has delegated.
    """
    query = select(*GRANT.c).where(GRANT.c.tenant_id == uow.tenant_id).order_by(GRANT.c.id).limit(limit)
    query = query.where(GRANT.c.subject == subject) if subject is not None else query
    query = query.where(or_(GRANT.c.subject == concerning, GRANT.c.delegated_by == concerning)) if concerning is not None else query
    query = query.where(GRANT.c.id > after) if after else query
    return [grant(row) for row in uow.connection.execute(query)]
