"""What should be impossible: an aggregate without the row that was written in its own transaction. Queries across tenants, which only read.

Each looks at a partial index or at a window of recent rows, because such a row is missing from the beginning or was deleted by hand: what has
moved on had its process, and what is older than the window is found by the audit. What a finding tells of already is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Column, ColumnElement, Connection, Row, Table, exists, func, literal, select, tuple_

from domain.delivery.cancellations import OPEN, CancellationRequest
from domain.delivery.orders import IS_CREATED, ORDER
from domain.fallout import triaging
from domain.fallout.cases import IS_OPEN, FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.findings import FINDING
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import IS_SUBMITTED, Quote, QuoteStatus
from domain.store import UnitOfWork, is_one_of, sql_list, table_of
from domain.store.claims import NOW, Groups, fairly
from domain.store.leases import is_free
from domain.workflows.starts import CORRELATION

Place = tuple[datetime, UUID]
"""A place in the order of acceptances: the time of the last change, and the id of the quote."""

KIND = "orphan"
WINDOW = timedelta(days=1)
LATE_COMMIT = timedelta(minutes=1)  # longer than any transaction may last
QUOTE, ACCEPTANCE, CANCELLATION = table_of(Quote), table_of(QuoteAcceptance), table_of(CancellationRequest)
IS_UNDECIDED = f"status IN {sql_list(OPEN)}"
NO_PROCESS, NO_ACCEPTANCE = "the domain never asked for its process", "it is accepted, and has no acceptance and no order"


class Orphan(NamedTuple):
    """An aggregate, and what it lacks. `order_id`: the order that it is about, if any."""

    tenant_id: UUID
    aggregate_type: str
    id: UUID
    order_id: UUID | None
    lacks: str


class _Search(NamedTuple):
    """Rows of `table` that `among` (the condition of a partial index) selects, and that may lack the process of `subject`."""

    table: Table
    among: str
    subject: ColumnElement[UUID]
    first: Column[datetime]
    is_old: ColumnElement[bool]
    order_id: ColumnElement[Any]


def without_process(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Find orders, submitted quotes, cases and cancellations that are older than `grace` and whose process was never requested.

    Returns at most `limit` rows of each; `as_orphan` reads them. Tenants take turns. Rows that a reconciler has leased are left out.
    """
    order, quote, case, request = ORDER.c, QUOTE.c, CASE.c, CANCELLATION.c
    none = literal(None)
    searches = (
        # An order leaves CREATED, and a quote SUBMITTED_FOR_APPROVAL, only when its process begins its work.
        _Search(ORDER, IS_CREATED, order.id, order.created_at, order.created_at < NOW - grace, order.id),
        _Search(QUOTE, IS_SUBMITTED, quote.current_revision_id, quote.updated_at, quote.updated_at < NOW - grace, none),
        _Search(CASE, IS_OPEN, case.id, case.created_at, case.created_at.between(NOW - WINDOW, NOW - grace), case.order_id),
        # The process of the order asks for the decision.
        _Search(
            CANCELLATION, IS_UNDECIDED, request.order_id, request.updated_at, request.updated_at < NOW - grace, request.order_id
        ),
    )
    return [row for each in searches for row in _lacking(connection, each, limit)]


def accepted_since(connection: Connection, seen: Place | None, limit: int, grace: timedelta) -> tuple[list[Orphan], Place | None]:
    """Accepted quotes without an acceptance, among the next ones after `seen`; and the place from which to go on.

    An acceptance names its order by a foreign key, so what has an acceptance has an order. At the end of the list the place is a minute
    back, because a transaction that is not committed yet may have an earlier time.
    """
    accepted = exists(
        select(ACCEPTANCE.c.id).where(
            ACCEPTANCE.c.tenant_id == QUOTE.c.tenant_id, ACCEPTANCE.c.quote_revision_id == QUOTE.c.current_revision_id
        )
    )
    order = (QUOTE.c.updated_at, QUOTE.c.id)
    # The moving clock is meant: no index can be searched by it, so PostgreSQL reads the acceptances alone, and not every change of the day.
    is_next = tuple_(*order) > tuple_(*map(literal, seen)) if seen else QUOTE.c.updated_at > func.clock_timestamp() - WINDOW
    query = (
        select(QUOTE.c.tenant_id, QUOTE.c.id, literal(QUOTE.name).label("aggregate_type"), literal(None).label("order_id"))
        .add_columns(literal(NO_ACCEPTANCE).label("lacks"), QUOTE.c.updated_at)
        .add_columns(accepted.label("is_whole"), _is_known(QUOTE).label("is_known"))
        .where(is_one_of(QUOTE.c.status, QuoteStatus.ACCEPTED), is_next, QUOTE.c.updated_at < NOW - grace)
        .order_by(*order)
    )
    rows = connection.execute(query.limit(limit)).all()
    if rows:
        last = rows[-1]
        seen = (last.updated_at, last.id) if len(rows) == limit else (last.updated_at - LATE_COMMIT, UUID(int=0))
    return [as_orphan(row) for row in rows if not (row.is_whole or row.is_known)], seen


def report(uow: UnitOfWork, orphan: Orphan) -> bool:
    """Open the case of something that should be impossible; returns False when it has one that is open.

    The finding beside it keeps it from being opened again when it is closed.
    """
    return triaging.open_once(
        uow,
        OpenCase(
            type=FalloutType.DATA_INVALID,
            dedupe_key=f"{KIND}:{orphan.id}",
            detail=f"{orphan.aggregate_type} {orphan.id}: {orphan.lacks}. This should be impossible: who has changed the database by hand?",
            order_id=orphan.order_id,
            evidence={"aggregate_type": orphan.aggregate_type, "aggregate_id": orphan.id, "lacks": orphan.lacks},
        ),
    )


def _lacking(connection: Connection, search: _Search, limit: int) -> Sequence[Row[Any]]:
    table = search.table
    has_process = exists(
        select(CORRELATION.c.id).where(CORRELATION.c.tenant_id == table.c.tenant_id, CORRELATION.c.aggregate_id == search.subject)
    )
    query = (
        select(table.c.tenant_id, table.c.id, literal(table.name).label("aggregate_type"), search.order_id.label("order_id"))
        .add_columns(literal(NO_PROCESS).label("lacks"), search.first)
        .where(search.is_old, ~has_process, ~_is_known(table), is_free(KIND, table))
    )
    groups = Groups(by=(table.c.tenant_id,), among=search.among)
    return connection.execute(select(fairly(query, groups, search.first, limit))).all()


def _is_known(table: Table) -> ColumnElement[bool]:
    return exists(
        select(FINDING.c.id).where(
            FINDING.c.tenant_id == table.c.tenant_id, FINDING.c.aggregate_id == table.c.id, FINDING.c.kind == KIND
        )
    )


def as_orphan(row: Row[Any]) -> Orphan:
    """What a row of a search says."""
    return Orphan(tenant_id=row.tenant_id, aggregate_type=row.aggregate_type, id=row.id, order_id=row.order_id, lacks=row.lacks)
