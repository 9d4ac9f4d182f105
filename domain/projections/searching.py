"""Lists of quotes and orders, read from their projections: filtered, sorted, counted, a page at a time.

A list may be behind the truth, so nothing that decides reads one; each item says at which version it shows its aggregate.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Table, func, literal, select, tuple_

from domain.projections.tables import IDENTITY, OF_THE_VIEW, TABLES, Projection
from domain.store import UnitOfWork, as_json

SIGNED = ("APPROVE", "REUSED")


class After(NamedTuple):
    """The last item of the page before: its value in the sorted column, and its id."""

    value: Any
    row_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A question for a page of at most `limit` items, by columns: equal to, not before, and before these values.

    `customers`: only those of these customers; None: of all. Items are sorted by one column, then by id, so that the order is total.
    """

    projection: Projection
    sort: str
    limit: int
    is_descending: bool = False
    equal: Mapping[str, Any] = field(default_factory=dict)
    since: Mapping[str, datetime] = field(default_factory=dict)
    before: Mapping[str, datetime] = field(default_factory=dict)
    customers: Collection[str] | None = None
    after: After | None = None


class Found(NamedTuple):
    """A page. `total` counts every item that fits the question, `as_of` is the time of the newest change that the caller may see."""

    items: list[dict[str, Any]]
    last: After | None
    total: int
    as_of: datetime | None


def search(uow: UnitOfWork, question: Search) -> Found:
    """Answer a question from the caller's tenant; `last` is None on the last page."""
    table, identity = TABLES[question.projection], IDENTITY[question.projection]
    visible = _visible(uow, question, table)
    conditions = [*visible, *_wanted(question, table)]
    order = (table.c[question.sort], table.c[identity])
    query = select(*_shown(question.projection)).where(*conditions)
    if question.after is not None:
        place = tuple_(*(literal(value, column.type) for value, column in zip(question.after, order, strict=True)))
        query = query.where(tuple_(*order) < place if question.is_descending else tuple_(*order) > place)
    directed = [column.desc() if question.is_descending else column.asc() for column in order]
    rows = uow.connection.execute(query.order_by(*directed).limit(question.limit + 1)).all()
    shown = rows[: question.limit]
    last = After(getattr(shown[-1], question.sort), getattr(shown[-1], identity)) if len(rows) > len(shown) else None
    total = uow.connection.scalar(select(func.count()).select_from(table).where(*conditions)) or 0
    newest = select(func.max(table.c.updated_at)).where(*visible)
    return Found([_item(row) for row in shown], last, total, uow.connection.scalar(newest))


def _visible(uow: UnitOfWork, question: Search, table: Table) -> list[ColumnElement[bool]]:
    of_tenant = table.c.tenant_id == uow.tenant_id
    return [of_tenant] if question.customers is None else [of_tenant, table.c.customer_id.in_(sorted(question.customers))]


def _wanted(question: Search, table: Table) -> list[ColumnElement[bool]]:
    return [
        *(table.c[name] == value for name, value in question.equal.items()),
        *(table.c[name] >= moment for name, moment in question.since.items()),
        *(table.c[name] < moment for name, moment in question.before.items()),
    ]


def _shown(projection: Projection) -> list[ColumnElement[Any]]:
    table = TABLES[projection]
    columns: list[ColumnElement[Any]] = [column for column in table.columns if column.name not in OF_THE_VIEW]
    if projection is Projection.QUOTES:
        columns.append(_signatures().label("approval_count"))
    return columns


def _signatures() -> ColumnElement[int]:
    """How many signatures approve the current revision: counted from the decisions, so that no event counts twice."""
    quote, decision = TABLES[Projection.QUOTES], TABLES[Projection.DECISIONS]
    return (
        select(func.count())
        .where(
            decision.c.tenant_id == quote.c.tenant_id,
            decision.c.quote_id == quote.c.quote_id,
            decision.c.quote_revision_id == quote.c.current_revision_id,
            decision.c.decision.in_(SIGNED),
        )
        .scalar_subquery()
    )


def _item(row: Row[Any]) -> dict[str, Any]:
    shown = {"version" if name == "aggregate_version" else name: value for name, value in row._mapping.items()}
    body: dict[str, Any] = as_json(shown)
    return body
