"""An outage costs each loop one line in the log when it begins and one when it ends, however long it lasts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, insert, select
from structlog.testing import capture_logs

from domain.projections.tables import OrderSearchProjection
from domain.store import table_of
from domain.store.facts import OutboxEvent, OutboxStatus
from reconciliation.loop import Intervals, Reconciler
from tests.support.engines import Doors
from tests.support.links.link import Link
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.kafka import views
from workers.kafka.inbox import Inbox
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS
from workers.runtime.database import connect
from workers.runtime.kafka import new_producer
from workers.runtime.process import Loop

OUTBOX, SEARCH = table_of(OutboxEvent), table_of(OrderSearchProjection)
TRIES = 3  # tries while the service is away, so that a line per try would show


@pytest.fixture
def behind(link: Link, db: Engine) -> Iterator[Engine]:
    """The database through the link."""
    url = db.url.set(host="127.0.0.1", port=link.port)
    engine = connect(url.render_as_string(hide_password=False), "behind the link")
    yield engine
    engine.dispose()


@contextmanager
def running(loop: Loop) -> Iterator[None]:
    stop = Event()
    thread = Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


def outage_lines(logs: list[Any], service: str) -> list[Mapping[str, Any]]:
    return [log for log in logs if log.get("service") == service]


def assert_one_line_each(logs: list[Any], service: str) -> None:
    began, ended = outage_lines(logs, service)
    assert (began["event"], ended["event"]) == ("service_unavailable", "service_available_again")
    assert began["reason"]
    assert ended["attempts"] > TRIES
    assert ended["seconds"] > 0


def write_event(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(
            insert(OUTBOX),
            {
                "tenant_id": uuid4(),
                "id": uuid4(),
                "event_type": "OrderStarted",
                "topic": ORDERS,
                "aggregate_type": "sales_order",
                "aggregate_id": uuid4(),
                "aggregate_version": 1,
                "payload": {"status": "IN_PROGRESS"},
                "command_id": uuid4(),
            },
        )


def is_all_published(db: Engine) -> bool:
    with db.connect() as connection:
        return not connection.scalar(select(func.count()).where(OUTBOX.c.status == OutboxStatus.PENDING))


def publish_order(topics: Topics) -> None:
    order_id = str(uuid4())
    envelope = {
        "eventId": str(uuid4()),
        "eventType": "OrderStarted",
        "eventTime": "2026-11-24T10:00:00Z",
        "tenantId": str(uuid4()),
        "aggregateType": "sales_order",
        "aggregateId": order_id,
        "aggregateVersion": 1,
        "correlationId": f"order:{order_id}",
        "causationId": None,
        "commandId": str(uuid4()),
        "businessKey": None,
        "schemaVersion": 1,
        "data": {
            "orderNumber": "O-1",
            "orderKind": "PRIMARY",
            "customerId": "customer-1",
            "status": "IN_PROGRESS",
            "priority": 4,
            "quoteId": str(uuid4()),
            "quoteRevisionId": str(uuid4()),
            **dict.fromkeys(("createdAt", "updatedAt"), "2026-11-24T10:00:00Z"),
        },
    }
    producer = new_producer(topics.kafka, None)
    producer.produce(ORDERS, json.dumps(envelope).encode(), order_id.encode())
    assert producer.flush(30) == 0


def orders_shown(db: Engine) -> int:
    with db.connect() as connection:
        return connection.scalar(select(func.count()).select_from(SEARCH)) or 0


def test_the_relay_logs_an_outage_of_its_database_once_when_it_begins_and_once_when_it_ends(
    db: Engine, behind: Engine, link: Link, topics: Topics
) -> None:
    write_event(db)
    with capture_logs() as logs, running(Relay(behind, topics.kafka)):
        eventually(lambda: is_all_published(db), "the relay works")
        link.cut()
        write_event(db)
        eventually(lambda: link.refused >= TRIES, "the relay has tried in vain, more than once")
        link.mend()
        eventually(lambda: is_all_published(db), "the relay works again")

    assert_one_line_each(logs, "database of the relay")


def test_the_inbox_logs_an_outage_of_its_database_once_when_it_begins_and_once_when_it_ends(
    db: Engine, behind: Engine, link: Link, topics: Topics
) -> None:
    publish_order(topics)
    with capture_logs() as logs, running(Inbox(behind, topics.kafka, views.ORDERS, group=f"test-{uuid4()}")):
        eventually(lambda: orders_shown(db) == 1, "the inbox works")
        link.cut()
        publish_order(topics)
        eventually(lambda: link.refused >= TRIES, "the inbox has tried in vain, more than once")
        link.mend()
        eventually(lambda: orders_shown(db) == 2, "the inbox works again")

    assert_one_line_each(logs, "database or Kafka of the inbox")


def test_a_sweep_logs_an_outage_of_the_engine_once_when_it_begins_and_once_when_it_ends(db: Engine, doors: Doors) -> None:
    engine, proxy = doors.through_proxy()
    soon = timedelta(0)
    reconciler = Reconciler(
        db, engine, {}, Intervals(start_safe_interval=soon, attempt_stale_after=soon, request_safe_interval=soon)
    )
    with capture_logs() as logs:
        reconciler.run_once()
        proxy.down()
        for _ in range(TRIES):
            reconciler.run_once()
        proxy.up()
        reconciler.run_once()

    assert_one_line_each(logs, "assignee sweep")
