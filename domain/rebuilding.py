"""Rebuilds projections from the authority: the tables of quotes, orders and decisions, which say what is true.

A rebuilt row is written by the guarded upsert of `domain.projections.merging`, so events may be merged at the same time: whichever comes
last, the newest version stays. Rows that show more than the authority has are taken back by `domain.retracting`. The authority's rows are
locked as for a foreign key, and those that retention is deleting are skipped: otherwise a deleted row could come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Row, Select, Text, and_, cast, func, literal, or_, select, true, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql.dml import ReturningInsert

from domain.delivery import orders
from domain.delivery.orders import ORDER
from domain.offers import approvals, quotes
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from domain.offers.quotes import Quote
from domain.projections.merging import NOTHING
from domain.projections.tables import HAS_GAP, IDENTITY, TABLES, Projection, header_of
from domain.store import UnitOfWork, table_of
from domain.store.claims import NOW, Groups, fairly
from domain.store.leases import is_free

QUOTE, DECISION, REQUIREMENT, REQUEST = (
    table_of(entity) for entity in (Quote, ApprovalDecision, ApprovalRequirement, ApprovalRequest)
)
KIND: Final = "projection"
"""The kind of the leases on rows with a gap."""
START: Final = (UUID(int=0), UUID(int=0))
"""The position before every row of every tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """Where the truth of a projection is: `rows` has its header, `changed_at` the time of the last change of a row."""

    rows: Select[Any]
    identity: Column[UUID]
    changed_at: Column[datetime]
    business_key: Callable[[Row[Any]], str]


class Batch(NamedTuple):
    """A step of a rebuild: how many rows were read, how many were wrong or absent, and where the next step begins."""

    read: int
    changed: int
    last: tuple[UUID, UUID]


class Stale(NamedTuple):
    """A row of the authority that a projection shows at an older version, with a gap, or not at all (`shown` is None)."""

    tenant_id: UUID
    id: UUID
    business_key: str
    version: int | None
    shown: int | None
    missing: str | None


class Place(NamedTuple):
    """A place in the order of changes."""

    changed_at: datetime
    row_id: UUID


def _header(projection: Projection, *tables: Any, **renamed: Column[Any]) -> list[ColumnElement[Any]]:
    """The columns of the projection's header, from the first table that has one of that name."""
    found = {name: column for table in reversed(tables) for name, column in table.c.items()} | renamed
    return [found[column.name].label(column.name) for column in header_of(projection)]


AUTHORITIES: Final = {
    Projection.QUOTES: Authority(
        rows=select(QUOTE.c.tenant_id, *_header(Projection.QUOTES, QUOTE, quote_id=QUOTE.c.id, aggregate_version=QUOTE.c.version)),
        identity=QUOTE.c.id,
        changed_at=QUOTE.c.updated_at,
        business_key=lambda row: quotes.business_key(row.tenant_id, row.quote_id, row.current_revision_id),
    ),
    Projection.ORDERS: Authority(
        rows=select(ORDER.c.tenant_id, *_header(Projection.ORDERS, ORDER, order_id=ORDER.c.id, aggregate_version=ORDER.c.version)),
        identity=ORDER.c.id,
        changed_at=ORDER.c.updated_at,
        business_key=lambda row: orders.business_key(row.tenant_id, row.order_id),
    ),
    Projection.DECISIONS: Authority(
        rows=select(
            DECISION.c.tenant_id,
            *_header(
                Projection.DECISIONS,
                DECISION,
                REQUIREMENT,
                approval_decision_id=DECISION.c.id,
                decided_at=DECISION.c.created_at,
            ),
        ).join_from(
            DECISION,
            REQUIREMENT,
            and_(REQUIREMENT.c.tenant_id == DECISION.c.tenant_id, REQUIREMENT.c.id == DECISION.c.requirement_id),
        ),
        identity=DECISION.c.id,
        changed_at=DECISION.c.created_at,
        business_key=lambda row: approvals.business_key(row.tenant_id, row.requirement_id),
    ),
}


def rebuild_row(uow: UnitOfWork, projection: Projection, row_id: UUID) -> bool:
    """Make one row what the authority says; False when it was so already, or when the authority has no such row."""
    authority = AUTHORITIES[projection]
    tenant_id = authority.identity.table.c.tenant_id
    source = _kept(projection, authority.rows.where(tenant_id == uow.tenant_id, authority.identity == row_id))
    return uow.connection.execute(_upsert(projection, source)).one_or_none() is not None


def rebuild_batch(
    connection: Connection, projection: Projection, after: tuple[UUID, UUID], limit: int, tenant_id: UUID | None = None
) -> Batch:
    """Rebuild the next rows, ordered by tenant and id; of one tenant only, unless it is None."""
    authority = AUTHORITIES[projection]
    key = (authority.identity.table.c.tenant_id, authority.identity)
    page = authority.rows.where(tuple_(*key) > tuple_(*(literal(part) for part in after)))
    page = page.where(key[0] == tenant_id) if tenant_id else page
    batch = _kept(projection, page.order_by(*key).limit(limit)).cte("batch").prefix_with("MATERIALIZED")
    written = _upsert(projection, select(batch)).cte("written")
    names = (batch.c.tenant_id, batch.c[IDENTITY[projection]])
    last = select(*names).order_by(*(name.desc() for name in names)).limit(1).subquery()
    counts = (select(func.count()).select_from(each).scalar_subquery() for each in (batch, written))
    row = connection.execute(select(*counts, *last.c).select_from(last)).one_or_none()
    return Batch(0, 0, after) if row is None else Batch(row[0], row[1], (row[2], row[3]))


def _kept(projection: Projection, source: Select[Any]) -> Select[Any]:
    """Leave out rows whose quote or order retention is deleting. A command that changes one neither waits nor is waited for."""
    if projection is Projection.DECISIONS:
        of_request = and_(REQUEST.c.tenant_id == REQUIREMENT.c.tenant_id, REQUEST.c.id == REQUIREMENT.c.request_id)
        of_quote = and_(QUOTE.c.tenant_id == REQUEST.c.tenant_id, QUOTE.c.id == REQUEST.c.quote_id)
        source = source.join(REQUEST, of_request).join(QUOTE, of_quote)
    root = ORDER if projection is Projection.ORDERS else QUOTE
    return source.with_for_update(read=True, key_share=True, of=root, skip_locked=True)


def count_rows(connection: Connection, projection: Projection, tenant_id: UUID | None = None) -> int:
    """How many rows a rebuild has to read."""
    table = AUTHORITIES[projection].identity.table
    query = select(func.count()).select_from(table)
    return connection.scalar(query.where(table.c.tenant_id == tenant_id) if tenant_id else query) or 0


def gaps(connection: Connection, limit: int, projection: Projection, older_than: timedelta) -> list[Row[Any]]:
    """Rows that have skipped a version for longer than this, the oldest gap of each tenant first; `as_stale` reads them.

    Tenants take turns. Rows that a reconciler has leased are left out. Reads only, from a partial index.
    """
    if "gap_since" not in TABLES[projection].c:
        return []
    truth, shown = _beside(projection)
    identity = IDENTITY[projection]
    query: Select[Any] = select(
        *truth.c, truth.c[identity].label("id"), shown.c.aggregate_version.label("shown"), shown.c.gap_since
    ).add_columns(cast(shown.c.missing, Text).label("missing_versions"))
    query = query.join_from(shown, truth, same_row(projection, truth, shown))
    query = query.where(shown.c.gap_since < NOW - older_than, is_free(KIND, shown, identity))
    groups = Groups(by=(shown.c.tenant_id,), among=HAS_GAP)
    return list(connection.execute(select(fairly(query, groups, shown.c.gap_since, limit))))


def behind(
    connection: Connection, projection: Projection, after: Place | None, limit: int, older_than: timedelta
) -> tuple[list[Stale], Place | None]:
    """Look at the next changes that are older than this: which of them the projection does not show, and the place of the last one.

    Reads only, from the index on the time of the change. The place is None when there is no further change.
    """
    authority, shown = AUTHORITIES[projection], TABLES[projection]
    # The page comes first: within a join, PostgreSQL may read another table whole for a few rows.
    changes, truth = _page_of_changes(authority, after, limit, older_than).subquery("changes"), authority.rows.subquery("truth")
    version = shown.c.aggregate_version if "aggregate_version" in shown.c else literal(None)
    is_shown = shown.c.tenant_id.is_not(None) & _is_no_older(projection, shown, truth)
    query: Select[Any] = select(
        *truth.c, changes.c.changed_at, version.label("shown"), literal(None).label("missing_versions"), is_shown.label("is_shown")
    )
    of_change = and_(truth.c.tenant_id == changes.c.tenant_id, truth.c[IDENTITY[projection]] == changes.c.id)
    query = query.join_from(changes, truth, of_change).join(shown, same_row(projection, truth, shown), isouter=True)
    rows = connection.execute(query.order_by(changes.c.changed_at, changes.c.id)).all()
    stale = [as_stale(projection, row) for row in rows if not row.is_shown]
    return stale, Place(rows[-1].changed_at, getattr(rows[-1], IDENTITY[projection])) if rows else None


def _page_of_changes(authority: Authority, after: Place | None, limit: int, older_than: timedelta) -> Select[Any]:
    changed_at, identity = authority.changed_at, authority.identity
    page = select(identity.table.c.tenant_id, identity.label("id"), changed_at.label("changed_at")).where(
        changed_at < NOW - older_than
    )
    page = page.where(tuple_(changed_at, identity) > tuple_(*map(literal, after))) if after else page
    return page.order_by(changed_at, identity).limit(limit)


def as_stale(projection: Projection, row: Row[Any]) -> Stale:
    """What a row of a search says."""
    return Stale(
        tenant_id=row.tenant_id,
        id=getattr(row, IDENTITY[projection]),
        business_key=AUTHORITIES[projection].business_key(row),
        version=getattr(row, "aggregate_version", None),
        shown=row.shown,
        missing=row.missing_versions,
    )


@cache
def _beside(projection: Projection) -> tuple[Any, Any]:
    return AUTHORITIES[projection].rows.subquery("truth"), TABLES[projection]


def same_row(projection: Projection, truth: Any, shown: Any) -> ColumnElement[bool]:
    """Whether a row of the authority and one of the projection are about the same."""
    identity = IDENTITY[projection]
    return and_(truth.c.tenant_id == shown.c.tenant_id, truth.c[identity] == shown.c[identity])


def _is_no_older(projection: Projection, shown: Any, truth: Any) -> ColumnElement[bool]:
    has_version = "aggregate_version" in TABLES[projection].c
    return shown.c.aggregate_version >= truth.c.aggregate_version if has_version else true()


def _upsert(projection: Projection, source: Select[Any]) -> ReturningInsert[Any]:
    """Write the rows of the authority that are absent, older or different in the projection. A newer row stays."""
    table, identity = TABLES[projection], IDENTITY[projection]
    names = [column.name for column in header_of(projection)]
    statement = insert(table).from_select(["tenant_id", *names], source)
    new = statement.excluded
    differs = tuple_(*(table.c[name] for name in names)).is_distinct_from(tuple_(*(new[name] for name in names)))
    guard = differs
    changes: dict[str, Any] = {name: new[name] for name in names if name != identity}
    if "gap_since" in table.c:
        guard = and_(table.c.aggregate_version <= new.aggregate_version, or_(differs, table.c.gap_since.is_not(None)))
        changes |= {"missing": NOTHING, "gap_since": None}
    return statement.on_conflict_do_update(
        index_elements=[table.c.tenant_id, table.c[identity]],
        set_={**changes, "projected_at": func.clock_timestamp()},
        where=guard,
    ).returning(table.c.tenant_id)
