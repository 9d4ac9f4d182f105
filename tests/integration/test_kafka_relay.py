"""The relay on real PostgreSQL and Kafka: nothing lost, nothing overtaken, whoever dies (I18, I19, I22, T9, T10)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, insert, select, text

from domain.projections import ConsumerInbox, OrderSearchProjection
from domain.store import outbox, table_of
from domain.store.facts import OutboxEvent, OutboxStatus
from domain.store.unit_of_work import housekeeping
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.topics import Topics, versions_by_aggregate
from tests.support.waiting import eventually
from workers.kafka import wire
from workers.kafka.inbox import CONSUMER, Inbox
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, all_topics, dead_letters
from workers.runtime.kafka import ensure_topics

ROOT = Path(__file__).resolve().parents[2]
OUTBOX = table_of(OutboxEvent)
TENANT = uuid4()
# Long enough for a test's broker to answer, short enough that a test may wait for its end.
SHORT_LEASE = timedelta(seconds=2)
RELAY_PROCESS = """
import sys, threading
from datetime import timedelta
from workers.kafka.relay import Relay
from workers.runtime.database import connect
Relay(connect(sys.argv[1], "doomed"), sys.argv[2], lease=timedelta(seconds=2)).run(threading.Event())
"""
DOOMED_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'q2o doomed' AND wait_event_type = 'Lock' AND query LIKE '%PUBLISHED%'"
)


def rows_of(aggregate_id: UUID, *versions: int, padding: str = "") -> list[dict[str, Any]]:
    """Make events of one aggregate."""
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
    """Whether the versions rise, those sent again left out."""
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


def test_every_committed_event_reaches_kafka_with_its_key_and_is_marked(db: Engine, topics: Topics, offers: Offers) -> None:
    order = offers.running_order()
    published = metric("q2o_outbox_published_total")
    assert Relay(db, topics.bootstrap).run_once() == len(committed(db))
    assert set(in_kafka(topics)) == committed(db) == committed(db, OutboxStatus.PUBLISHED)
    assert metric("q2o_outbox_published_total") == published + len(committed(db))
    records = [record for record in topics.records(ORDERS) if record.key() == str(order.order_id).encode()]
    assert [dict(record.headers() or []).get("eventType") for record in records] == [
        b"OrderCreated",
        b"OrderSubmitted",
        b"OrderStarted",
    ]


def test_nothing_of_an_open_or_undone_transaction_is_published(db: Engine, topics: Topics) -> None:
    relay = Relay(db, topics.bootstrap)
    with db.connect() as connection:
        connection.execute(insert(OUTBOX), rows_of(uuid4(), 1))
        assert relay.run_once() == 0
        connection.rollback()
    assert relay.run_once() == 0
    assert in_kafka(topics) == []


def test_a_lower_position_that_commits_late_is_not_lost(db: Engine, topics: Topics) -> None:
    relay = Relay(db, topics.bootstrap)
    early, late = uuid4(), uuid4()
    with db.begin() as connection:
        connection.execute(insert(OUTBOX), rows_of(late, 1))
        write(db, early, 1)
        assert relay.run_once() == 1
    assert relay.run_once() == 1
    assert set(in_kafka(topics)) == committed(db)


def test_a_new_event_does_not_overtake_one_that_another_relay_has_in_hand(db: Engine, topics: Topics) -> None:
    aggregate, other = uuid4(), uuid4()
    write(db, aggregate, 1)
    with housekeeping(db) as connection:
        assert len(outbox.claim(connection, 10, SHORT_LEASE)) == 1
    write(db, aggregate, 2)
    write(db, other, 1)
    relay = Relay(db, topics.bootstrap)
    assert relay.run_once() == 1
    assert versions_by_aggregate(topics.events(ORDERS)) == {other: [1]}
    eventually(lambda: relay.run_once() == 2, "the lease of the other relay ends")
    assert versions_by_aggregate(topics.events(ORDERS))[aggregate] == [1, 2]


def test_a_claim_that_meets_another_one_takes_nothing_of_its_aggregates(db: Engine) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1)
    with housekeeping(db) as first:
        assert [event.aggregate_version for event in outbox.claim(first, 10, SHORT_LEASE)] == [1]
        write(db, aggregate, 2)
        with housekeeping(db) as second:
            assert outbox.claim(second, 10, SHORT_LEASE) == []


def test_two_relays_keep_the_order_of_every_aggregate_and_lose_nothing(db: Engine, topics: Topics) -> None:
    aggregates = [uuid4() for _ in range(10)]
    with running(Relay(db, topics.bootstrap, batch_size=7), Relay(db, topics.bootstrap, batch_size=7)):
        for version in range(1, 21):
            for aggregate in aggregates:
                write(db, aggregate, version)
        eventually(lambda: not committed(db, OutboxStatus.PENDING), "everything is published")
    assert sorted(in_kafka(topics)) == sorted(committed(db))
    assert versions_by_aggregate(topics.events(ORDERS)) == {aggregate: list(range(1, 21)) for aggregate in aggregates}


def test_a_batch_ends_in_the_middle_of_an_aggregate_and_the_next_goes_on_there(db: Engine, topics: Topics) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1, 2, 3, 4, 5)
    relay = Relay(db, topics.bootstrap, batch_size=2)
    assert [relay.run_once() for _ in range(4)] == [2, 2, 1, 0]
    assert versions_by_aggregate(topics.events(ORDERS)) == {aggregate: [1, 2, 3, 4, 5]}


def test_an_event_that_kafka_cannot_take_holds_up_its_aggregate_only(db: Engine, topics: Topics) -> None:
    blocked, free = uuid4(), uuid4()
    write(db, blocked, 1)
    write(db, blocked, 2, padding="x" * 2_000_000)
    write(db, blocked, 3)
    write(db, free, 1)
    relay = Relay(db, topics.bootstrap)
    assert relay.run_once() == 2
    write(db, free, 2)
    assert relay.run_once() == 1
    assert versions_by_aggregate(topics.events(ORDERS)) == {blocked: [1], free: [1, 2]}


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_overtaken_when_the_broker_dies_and_comes_back(db: Engine, topics: Topics) -> None:
    aggregates = [uuid4() for _ in range(5)]
    with running(Relay(db, topics.bootstrap, lease=SHORT_LEASE)):
        for aggregate in aggregates:
            write(db, aggregate, 1, 2)
        eventually(lambda: committed(db, OutboxStatus.PUBLISHED), "the relay works")
        topics.stack.kafka.kill()
        try:
            for version in range(3, 8):
                for aggregate in aggregates:
                    write(db, aggregate, version)
            eventually(lambda: postponed(db), "the relay gives up a batch")
        finally:
            topics.stack.kafka.start()
        eventually(lambda: not committed(db, OutboxStatus.PENDING), "everything is published", patience=120)
    # A broker that was killed forgets what it deleted lately: records of earlier tests are back, rubbish too.
    ours = {str(aggregate).encode() for aggregate in aggregates}
    events = [wire.decode(record.value()) for record in topics.records(ORDERS) if record.key() in ours]
    assert {event.event_id for event in events} == committed(db)
    versions = versions_by_aggregate(events)
    assert all(in_order(versions[aggregate]) for aggregate in aggregates)


def postponed(engine: Engine) -> int:
    with engine.connect() as connection:
        query = select(func.count()).where(OUTBOX.c.status == OutboxStatus.PENDING, OUTBOX.c.attempts > 1)
        return connection.scalar(query) or 0


def test_a_relay_killed_after_send_and_before_mark_repeats_itself_with_one_effect(
    db: Engine, topics: Topics, offers: Offers
) -> None:
    order = offers.running_order()
    with db.connect() as holder:
        # A claim touches an aggregate's oldest event only, a mark every event: this lock lets the one pass and stops the other.
        holder.execute(
            select(OUTBOX.c.id)
            .where(OUTBOX.c.aggregate_id == order.order_id, OUTBOX.c.event_type == "OrderStarted")
            .with_for_update()
        )
        address = db.url.render_as_string(hide_password=False)
        doomed = subprocess.Popen([sys.executable, "-c", RELAY_PROCESS, address, topics.bootstrap], cwd=ROOT)
        try:
            eventually(lambda: doomed_waits(db), "the relay waits to mark what it sent")
        finally:
            os.kill(doomed.pid, signal.SIGKILL)
            doomed.wait()
        holder.rollback()
    assert not committed(db, OutboxStatus.PUBLISHED)
    assert set(in_kafka(topics)) == committed(db)
    relay = Relay(db, topics.bootstrap)
    eventually(relay.run_once, "the dead relay's lease ends")
    assert sorted(in_kafka(topics)) == sorted([*committed(db), *committed(db)])
    assert_consumed_once(db, topics, order.order_id, order.version)


def doomed_waits(engine: Engine) -> int:
    """Look from a new transaction: one and the same sees the activity of its first look for ever."""
    with engine.connect() as connection:
        return connection.scalar(DOOMED_WAITS) or 0


def assert_consumed_once(db: Engine, topics: Topics, order_id: UUID, version: int) -> None:
    """Consume every order event there is: three distinct ones, each twice."""
    before = duplicates()
    inbox = Inbox(db, topics.bootstrap, group=f"test-{uuid4()}")
    dealt_with = 0

    def all_of_them() -> bool:
        nonlocal dealt_with
        dealt_with += inbox.run_once()
        return dealt_with == 6

    eventually(all_of_them, "six messages dealt with")
    inbox.close()
    assert duplicates() == before + 3
    with db.connect() as connection:
        assert connection.scalar(select(func.count()).select_from(table_of(ConsumerInbox))) == 3
        row = connection.execute(select(table_of(OrderSearchProjection))).one()
    assert (row.order_id, row.aggregate_version, row.status) == (order_id, version, "IN_PROGRESS")


def duplicates() -> float:
    types = ("OrderCreated", "OrderSubmitted", "OrderStarted")
    return sum(metric("q2o_inbox_duplicates_skipped_total", consumer=CONSUMER, event_type=each) for each in types)


def test_a_relay_goes_on_when_its_database_connections_are_cut(db: Engine, topics: Topics) -> None:
    aggregate = uuid4()
    with running(Relay(db, topics.bootstrap, lease=SHORT_LEASE)):
        for version in range(1, 6):
            write(db, aggregate, version)
            with db.connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
        eventually(lambda: not committed(db, OutboxStatus.PENDING), "everything is published")
    assert set(in_kafka(topics)) == committed(db)
    assert in_order(versions_by_aggregate(topics.events(ORDERS))[aggregate])


def test_topics_are_made_once_and_each_has_its_dead_letters(topics: Topics) -> None:
    ensure_topics(topics.bootstrap, all_topics())
    assert dead_letters(ORDERS) in all_topics()
    assert topics.records(dead_letters(ORDERS)) == []
