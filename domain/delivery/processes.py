"""Whether what a process instance was started for is done, so that nobody misses the instance.

A final state is never left, so "done" stays true; "not done" holds only while the row is locked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, func, not_, select, tuple_

from domain.delivery import orders, steps
from domain.delivery.cancellations import CancellationRequest
from domain.delivery.orders import ORDER, SalesOrder
from domain.delivery.steps import STEP, FulfillmentStep
from domain.errors import NotFound
from domain.fallout import cases
from domain.fallout.cases import FalloutCase
from domain.fallout.triaging import CASE
from domain.offers.quotes import Quote, QuoteRevision, QuoteStatus
from domain.store import UnitOfWork, is_one_of, table_of
from domain.workflows.keys import OF_CASES, BusinessKey, Kind

QUOTE, REVISION = table_of(Quote), table_of(QuoteRevision)
IS_IN_APPROVAL = and_(
    QUOTE.c.current_revision_id == REVISION.c.id,
    is_one_of(QUOTE.c.status, QuoteStatus.SUBMITTED_FOR_APPROVAL, QuoteStatus.APPROVAL_IN_PROGRESS),
)
LOCKED: Mapping[Kind, Any] = {
    Kind.QUOTE_REVISION: Quote,
    Kind.ORDER: SalesOrder,
    Kind.FALLOUT_CASE: FalloutCase,
    Kind.UNDO_STEP: FulfillmentStep,
}
"""What is locked while a process of this kind is judged. The domain starts processes of these kinds; the others are called by them."""

WITH_ORDER: Mapping[Kind, Any] = {
    Kind.ORDER: SalesOrder,
    Kind.STEP: FulfillmentStep,
    Kind.UNDO_STEP: FulfillmentStep,
    Kind.CANCELLATION: CancellationRequest,
    **dict.fromkeys(OF_CASES, FalloutCase),
}
"""What names the order that a process of this kind works for."""


def _of(table: Table, is_done: ColumnElement[bool]) -> Select[Any]:
    return select(table.c.tenant_id, table.c.id).where(is_done)


DONE: Mapping[Kind, tuple[Select[Any], Table, Table]] = {
    Kind.QUOTE_REVISION: (
        _of(REVISION, not_(IS_IN_APPROVAL)).join(
            QUOTE, and_(QUOTE.c.tenant_id == REVISION.c.tenant_id, QUOTE.c.id == REVISION.c.quote_id)
        ),
        REVISION,
        QUOTE,
    ),
    Kind.ORDER: (_of(ORDER, is_one_of(ORDER.c.status, *orders.FINAL)), ORDER, ORDER),
    Kind.FALLOUT_CASE: (_of(CASE, is_one_of(CASE.c.status, *cases.FINAL)), CASE, CASE),
    Kind.UNDO_STEP: (_of(STEP, is_one_of(STEP.c.status, *steps.FINAL)), STEP, STEP),
}
"""Kind of process -> the query of finished rows, the table whose ids the business keys name, and the table that says when a row finished."""


def done(connection: Connection, keys: Iterable[BusinessKey], grace: timedelta = timedelta(0)) -> set[str]:
    """Those of these business keys whose business has been done for longer than `grace`."""
    by_kind: dict[Kind, dict[tuple[UUID, UUID], str]] = {}
    for key in (key for key in keys if key.kind in DONE):
        by_kind.setdefault(key.kind, {})[key.tenant_id, key.id] = str(key)
    return {
        named[row.tenant_id, row.id] for kind, named in by_kind.items() for row in connection.execute(_done(kind, named, grace))
    }


def is_done(uow: UnitOfWork, key: BusinessKey) -> bool:
    """Whether the business of a key is done; what it is about is locked until commit. Raises NotFound, also for other kinds."""
    if key.kind not in LOCKED:
        raise NotFound(f"The domain starts no process for {key}.")
    uow.read(LOCKED[key.kind], key.ids[0], lock=True)
    return bool(done(uow.connection, [key]))


def order_of(uow: UnitOfWork, key: BusinessKey) -> UUID | None:
    """The order that the process of a key works for; None when there is none, also for a key that somebody made up."""
    try:
        return order_worked_for(uow, key)
    except NotFound:
        return None


def order_worked_for(uow: UnitOfWork, key: BusinessKey) -> UUID:
    """The order that the process of a key works for. Raises NotFound."""
    if key.kind not in WITH_ORDER:
        raise NotFound(f"{key} names no order.")
    row = uow.read(WITH_ORDER[key.kind], key.id)
    order_id: UUID | None = row.id if key.kind is Kind.ORDER else row.order_id
    if order_id is None:
        raise NotFound(f"{key} has no order.")
    return order_id


def _done(kind: Kind, ids: Collection[tuple[UUID, UUID]], grace: timedelta) -> Select[Any]:
    query, named, since = DONE[kind]
    is_among = tuple_(named.c.tenant_id, named.c.id).in_(list(ids))
    return query.where(is_among, since.c.updated_at < func.clock_timestamp() - grace)
