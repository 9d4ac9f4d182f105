"""The relay when the broker dies, when it is killed itself, and when its database connections are cut (race 9)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, func, select, text

from domain.projections.tables import ConsumerInbox, OrderSearchProjection
from domain.store import table_of
from domain.store.facts import OutboxStatus
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.refusing_kafka import refusing_the_first_records
from tests.support.relays import OUTBOX, SHORT_LEASE, committed, in_kafka, in_order, running, write
from tests.support.topics import Topics, versions_by_aggregate
from tests.support.waiting import eventually
from workers.kafka import views, wire
from workers.kafka.inbox import Inbox
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS

ROOT = Path(__file__).resolve().parents[2]
RELAY_PROCESS = """
import sys, threading
from datetime import timedelta
from workers.kafka.relay import Relay
from workers.runtime.database import connect
from workers.runtime.kafka_access import KafkaAccess
Relay(connect(sys.argv[1], "doomed"), KafkaAccess(bootstrap=sys.argv[2]), lease=timedelta(seconds=2)).run(threading.Event())
"""
DOOMED_WAITS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'q2o doomed %' AND wait_event_type = 'Lock' AND query LIKE 'DELETE FROM outbox_event%'"
)


@pytest.mark.timeout(240)
def test_no_event_is_lost_or_overtaken_when_the_broker_dies_and_comes_back(db: Engine, topics: Topics) -> None:
    aggregates = [uuid4() for _ in range(5)]
    with running(Relay(acting(db, "relay"), topics.kafka, lease=SHORT_LEASE)):
        for aggregate in aggregates:
            write(db, aggregate, 1, 2)
        eventually(lambda: committed(db, published=True), "the relay works")
        topics.stack.kafka.kill()
        try:
            for version in range(3, 8):
                for aggregate in aggregates:
                    write(db, aggregate, version)
            eventually(lambda: postponed(db), "the relay gives up a batch")
        finally:
            topics.stack.kafka.start()
        eventually(lambda: not committed(db, published=False), "everything is published", patience=120)
    # A killed broker forgets its latest deletions: records of earlier tests are back, unreadable ones too.
    ours = {str(aggregate).encode() for aggregate in aggregates}
    events = [wire.decode(record.value()) for record in topics.records(ORDERS) if record.key() in ours]
    assert {event.event_id for event in events} == committed(db)
    assert [versions for versions in versions_by_aggregate(events).values() if not in_order(versions)] == []


@pytest.mark.timeout(240)
def test_a_relay_goes_on_after_it_gave_up_events_that_were_on_their_way(db: Engine, topics: Topics) -> None:
    """To the library a record that may or may not have arrived is a fatal error."""
    aggregate = uuid4()
    with running(Relay(acting(db, "relay"), topics.kafka, lease=SHORT_LEASE)):
        write(db, aggregate, 1)
        eventually(lambda: committed(db, published=True), "the relay works")
        os.kill(topics.stack.kafka.pid, signal.SIGSTOP)
        try:
            write(db, aggregate, 2, 3)
            eventually(lambda: postponed(db), "the relay gives up what the silent broker has not confirmed")
        finally:
            os.kill(topics.stack.kafka.pid, signal.SIGCONT)
        eventually(lambda: not committed(db, published=False), "everything is published", patience=120)
    assert set(in_kafka(topics)) == committed(db)
    assert in_order(versions_by_aggregate(topics.events(ORDERS))[aggregate])


def test_a_later_event_does_not_overtake_one_that_a_starting_broker_refuses(db: Engine, topics: Topics) -> None:
    """A broker takes the first records that it gets from a producer, whatever their sequence number is."""
    aggregate = uuid4()
    write(db, aggregate, 1, 2, 3, padding="x" * 600_000)
    with refusing_the_first_records(topics.kafka, ORDERS) as kafka, running(Relay(acting(db, "relay"), kafka)):
        eventually(lambda: not committed(db, published=False), "everything is published")
    assert versions_by_aggregate(topics.events(ORDERS))[aggregate] == [1, 2, 3]


def postponed(engine: Engine) -> int:
    with engine.connect() as connection:
        query = select(func.count()).where(OUTBOX.c.status == OutboxStatus.PENDING, OUTBOX.c.attempts > 1)
        return connection.scalar(query) or 0


def test_a_relay_killed_after_send_and_before_mark_repeats_itself_with_one_effect(
    db: Engine, topics: Topics, offers: Offers
) -> None:
    order = offers.running_order()
    with db.connect() as holder:
        # A claim locks only the oldest event of an aggregate, a mark every event: this lock stops the mark and not the claim.
        holder.execute(
            select(OUTBOX.c.id)
            .where(OUTBOX.c.aggregate_id == order.order_id, OUTBOX.c.event_type == "OrderStarted")
            .with_for_update()
        )
        address = acting(db, "relay").url.render_as_string(hide_password=False)
        doomed = subprocess.Popen([sys.executable, "-c", RELAY_PROCESS, address, topics.kafka.bootstrap], cwd=ROOT)
        try:
            eventually(lambda: doomed_waits(db), "the relay waits to mark what it sent")
        finally:
            os.kill(doomed.pid, signal.SIGKILL)
            doomed.wait()
        holder.rollback()
    assert not committed(db, published=True)
    assert set(in_kafka(topics)) == committed(db)
    relay = Relay(acting(db, "relay"), topics.kafka)
    eventually(relay.run_once, "the dead relay's lease ends")
    assert sorted(in_kafka(topics)) == sorted([*committed(db), *committed(db)])
    assert_consumed_once(db, topics, order.order_id, order.version)


def doomed_waits(engine: Engine) -> int:
    """Read in a new transaction, because a transaction sees the activity of its first read until it ends."""
    with engine.connect() as connection:
        return connection.scalar(DOOMED_WAITS) or 0


def assert_consumed_once(db: Engine, topics: Topics, order_id: UUID, version: int) -> None:
    """Consume every order event: three distinct ones, each twice."""
    before = duplicates()
    inbox = Inbox(acting(db, "inbox"), topics.kafka, views.ORDERS, group=f"test-{uuid4()}")
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
    return sum(metric("q2o_inbox_duplicates_skipped_total", consumer=views.ORDERS.consumer, event_type=each) for each in types)


def test_a_relay_goes_on_when_its_database_connections_are_cut(db: Engine, topics: Topics) -> None:
    aggregate = uuid4()
    with running(Relay(acting(db, "relay"), topics.kafka, lease=SHORT_LEASE)):
        for version in range(1, 6):
            write(db, aggregate, version)
            with db.connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )
                )
        eventually(lambda: not committed(db, published=False), "everything is published")
    assert set(in_kafka(topics)) == committed(db)
    assert in_order(versions_by_aggregate(topics.events(ORDERS))[aggregate])
