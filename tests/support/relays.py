"""Outbox rows for tests of the relay, and what became of them in the database and in Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, insert, text

from domain.auditing.rule import COMMITTED
from domain.store import table_of
from domain.store.facts import OutboxEvent, TransitionLog
from tests.support.topics import Topics
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, all_topics

OUTBOX, LOG = table_of(OutboxEvent), table_of(TransitionLog)
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
        add(connection, *rows_of(aggregate_id, *versions, padding=padding))


def add(connection: Connection, *rows: Mapping[str, Any]) -> None:
    """Insert events, and the changes of which they tell."""
    connection.execute(insert(OUTBOX), list(rows))
    same = ("tenant_id", "id", "aggregate_type", "aggregate_id", "aggregate_version", "command_id")
    logged = {"transition_to": "IN_PROGRESS", "reason": "START", "actor": "test", "emitted_event_type": "OrderStarted"}
    connection.execute(
        insert(LOG), [{**{name: row[name] for name in same}, **logged, "emitted_event_id": row["id"]} for row in rows]
    )


def committed(engine: Engine, *, published: bool | None = None) -> set[UUID]:
    """List the ids of the events that transactions have committed: all, those that are published, or those that are not."""
    which = {None: "true", True: "is_published", False: "NOT is_published"}[published]
    with engine.connect() as connection:
        return set(connection.scalars(text(f"SELECT id FROM {COMMITTED} committed WHERE {which}")))


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
