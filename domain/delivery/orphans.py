"""What should be impossible: an aggregate without the row that was written in its own transaction. Queries across tenants, which only read.

Each looks at a partial index or at a window of recent rows, because such a row is missing from the beginning or was deleted by hand: what has
moved on had its process, and what is older than the window is found by the audit. What a finding tells of already is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, and_, exists, func, literal, select, tuple_

from domain.delivery.cancellations import OPEN, CancellationRequest
from domain.delivery.orders import ORDER, OrderStatus
from domain.fallout import triaging
from domain.fallout.cases import FalloutStatus, FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.findings import FINDING
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import Quote, QuoteStatus
from domain.store import UnitOfWork, is_one_of, table_of
from domain.workflows.starts import CORRELATION

Place = tuple[datetime, UUID]
"""A place in the order of acceptances: the time of the last change, and the id of the quote."""

KIND = "orphan"
WINDOW = timedelta(days=1)
LATE_COMMIT = timedelta(minutes=1)  # longer than any transaction may last
NOW = func.clock_timestamp()
QUOTE, ACCEPTANCE, CANCELLATION = table_of(Quote), table_of(QuoteAcceptance), table_of(CancellationRequest)
NO_PROCESS, NO_ACCEPTANCE = "the domain never asked for its process", "it is accepted, and has no acceptance and no order"


class Orphan(NamedTuple):
    """An aggregate, and what it lacks. `order_id`: the order that it is about, if any."""

    tenant_id: UUID
    aggregate_type: str
    id: UUID
    order_id: UUID | None
    lacks: str


def without_process(connection: Connection, limit: int, grace: timedelta) -> list[Orphan]:
    """Orders, submitted quotes, cases and cancellations for which no process was asked for, older than `grace`."""
    order, quote, case, request = ORDER.c, QUOTE.c, CASE.c, CANCELLATION.c
    queries = (
        # An order leaves CREATED, and a quote SUBMITTED_FOR_APPROVAL, only when its process begins its work.
        _lacking(ORDER, order.id, is_one_of(order.status, OrderStatus.CREATED), order.created_at < NOW - grace, about=order.id),
        _lacking(
            QUOTE,
            quote.current_revision_id,
            is_one_of(quote.status, QuoteStatus.SUBMITTED_FOR_APPROVAL),
            quote.updated_at < NOW - grace,
        ),
        _lacking(
            CASE,
            case.id,
            is_one_of(case.status, FalloutStatus.OPEN),
            case.created_at.between(NOW - WINDOW, NOW - grace),
            about=case.order_id,
        ),
        # The process of the order asks for the decision.
        _lacking(
            CANCELLATION,
            request.order_id,
            is_one_of(request.status, *OPEN),
            request.updated_at < NOW - grace,
            about=request.order_id,
        ),
    )
    return [_orphan(row, NO_PROCESS) for query in queries for row in connection.execute(query.limit(limit))]


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
    is_next = tuple_(*order) > tuple_(*map(literal, seen)) if seen else QUOTE.c.updated_at > NOW - WINDOW
    query = (
        select(QUOTE.c.tenant_id, QUOTE.c.id, literal(QUOTE.name).label("aggregate_type"), literal(None).label("order_id"))
        .add_columns(QUOTE.c.updated_at, accepted.label("is_whole"), _is_known(QUOTE).label("is_known"))
        .where(is_one_of(QUOTE.c.status, QuoteStatus.ACCEPTED), is_next, QUOTE.c.updated_at < NOW - grace)
        .order_by(*order)
    )
    rows = connection.execute(query.limit(limit)).all()
    if rows:
        last = rows[-1]
        seen = (last.updated_at, last.id) if len(rows) == limit else (last.updated_at - LATE_COMMIT, UUID(int=0))
    return [_orphan(row, NO_ACCEPTANCE) for row in rows if not (row.is_whole or row.is_known)], seen


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


def _lacking(
    table: Table, subject: ColumnElement[UUID], *conditions: ColumnElement[bool], about: ColumnElement[Any] | None = None
) -> Select[Any]:
    has_process = exists(
        select(CORRELATION.c.id).where(CORRELATION.c.tenant_id == table.c.tenant_id, CORRELATION.c.aggregate_id == subject)
    )
    columns: Sequence[ColumnElement[Any]] = (
        table.c.tenant_id,
        table.c.id,
        literal(table.name).label("aggregate_type"),
        (literal(None) if about is None else about).label("order_id"),
    )
    return select(*columns).where(and_(*conditions), ~has_process, ~_is_known(table))


def _is_known(table: Table) -> ColumnElement[bool]:
    return exists(
        select(FINDING.c.id).where(
            FINDING.c.tenant_id == table.c.tenant_id, FINDING.c.aggregate_id == table.c.id, FINDING.c.kind == KIND
        )
    )


def _orphan(row: Row[Any], lacks: str) -> Orphan:
    return Orphan(tenant_id=row.tenant_id, aggregate_type=row.aggregate_type, id=row.id, order_id=row.order_id, lacks=lacks)
