"""Outbox rows for tests of the relay, and what became of them in the database and in Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Engine, insert, select

from domain.store import table_of
from domain.store.facts import OutboxEvent, OutboxStatus
from tests.support.topics import Topics
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, all_topics

OUTBOX = table_of(OutboxEvent)
TENANT = uuid4()


# Long enough for a test's broker to respond, short enough that a test can wait until it is over.
SHORT_LEASE = timedelta(seconds=2)


def rows_of(aggregate_id: UUID, *versions: int, padding: str = "") -> list[dict[str, Any]]:
    """Make outbox rows of one aggregate."""
    return [
        {
            "tenant_id": TENANT,
            "id": uuid4(),
            "event_type": "OrderStarted",
            "topic": ORDERS,
            "aggregate_type": "sales_order",
            "aggregate_id": aggregate_id,
            "aggregate_version": version,
            "payload": {"status": "IN_PROGRESS", "padding": padding},
            "command_id": uuid4(),
        }
        for version in versions
    ]


def write(engine: Engine, aggregate_id: UUID, *versions: int, padding: str = "") -> None:
    """Commit events of one aggregate, in one transaction."""
    with engine.begin() as connection:
        connection.execute(insert(OUTBOX), rows_of(aggregate_id, *versions, padding=padding))


def committed(engine: Engine, status: OutboxStatus | None = None) -> set[UUID]:
    """List the ids of the outbox's events."""
    with engine.connect() as connection:
        return set(connection.scalars(select(OUTBOX.c.id).where(OUTBOX.c.status.in_([status] if status else OutboxStatus))))


def in_kafka(topics: Topics) -> list[UUID]:
    """List the ids of the events in Kafka, repeats too."""
    return [event.event_id for event in topics.events(*(topic for topic in all_topics() if not topic.endswith(".dlq")))]


def in_order(versions: Iterable[int]) -> bool:
    """Whether the versions rise, when repeats are left out."""
    seen: list[int] = []
    for version in versions:
        if version not in seen:
            seen.append(version)
    return seen == sorted(seen)


@contextmanager
def running(*relays: Relay) -> Iterator[None]:
    stop = Event()
    threads = [Thread(target=relay.run, args=(stop,)) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
