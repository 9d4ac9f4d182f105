"""Projections for tests without Kafka: filled from the authority, or by events as the outbox has them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, Row, func, select

from domain import rebuilding
from domain.delivery import cancelling
from domain.projections.merging import Consumed
from domain.projections.tables import INBOX, TABLES, Projection
from domain.store import UnitOfWork, table_of
from domain.store.base import as_json
from domain.store.facts import OutboxEvent
from domain.store.unit_of_work import housekeeping
from tests.support.as_read import Order
from tests.support.database import acting
from tests.support.waiting import eventually
from workers.kafka import wire
from workers.kafka.inbox import Inbox, project
from workers.kafka.views import VIEWS, View
from workers.kafka.wire import Envelope

OUTBOX = table_of(OutboxEvent)
EVERY_ROW = 10**6


def show_all(engine: Engine) -> None:
    """Bring every projection up to date at once, as `q2o rebuild` does."""
    for projection in Projection:
        with housekeeping(acting(engine, "reconcile")) as connection:
            rebuilding.rebuild_batch(connection, projection, rebuilding.START, EVERY_ROW)


def events_of(engine: Engine, *aggregate_types: str) -> list[Row[Any]]:
    """The events of the outbox, in their order."""
    query = select(*OUTBOX.c).where(OUTBOX.c.aggregate_type.in_(aggregate_types)).order_by(OUTBOX.c.position)
    with engine.connect() as connection:
        return list(connection.execute(query).all())


def envelope_of(event: Row[Any]) -> Envelope:
    """An event of the outbox as a consumer reads it."""
    return Envelope(
        event_id=event.id,
        event_type=event.event_type,
        event_time=event.created_at,
        tenant_id=event.tenant_id,
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        aggregate_version=event.aggregate_version,
        correlation_id=event.business_key or str(event.aggregate_id),
        causation_id=None,
        command_id=event.command_id,
        business_key=event.business_key,
        schema_version=wire.SCHEMA_VERSION,
        data=as_json(event.payload),
    )


def feed(engine: Engine, view: View, events: Iterable[Envelope]) -> list[Consumed]:
    """Let a view consume events, as the inbox does for what Kafka delivers."""
    return [project(acting(engine, "inbox"), view, event) for event in events]


def feed_all(engine: Engine, tenant_id: UUID) -> None:
    """Let every view consume all events of a tenant."""
    for view in VIEWS:
        events = (event for event in events_of(engine, view.aggregate_type, *_BESIDE.get(view.aggregate_type, ())))
        feed(engine, view, (envelope_of(event) for event in events if event.tenant_id == tenant_id))


def rows(engine: Engine, projection: Projection) -> list[Row[Any]]:
    """Every row of a projection."""
    with engine.connect() as connection:
        return list(connection.execute(select(*TABLES[projection].c)).all())


def ask_to_cancel(uow: UnitOfWork, order: Order) -> None:
    """A command on an order whose event the views have yet to see."""
    command = cancelling.RequestCancellation(
        order_id=order.order_id, expected_version=order.version, expected_status=order.status, reason="WISH", requested_by="carla"
    )
    cancelling.request(uow, command)


def events_seen(engine: Engine) -> int:
    """How many events the inbox has a row for."""
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(INBOX)) or 0


def consume_until(inbox: Inbox, is_done: Callable[[], bool], what: str) -> None:
    """Let an inbox consume until something is so, and leave its group."""

    def goes_on() -> bool:
        inbox.run_once()
        return is_done()

    eventually(goes_on, what)
    inbox.close()


_BESIDE = {"approval_requirement": ("approval_request",)}
