"""The relay on real PostgreSQL and Kafka loses no event and keeps the order of each aggregate (races 9 and 10; I18, I19 and I22).

The codes with I are those of docs/domain.md#invariants.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import Engine, text

from domain.retry_rules import EVENT_REFUSED
from domain.store import outbox
from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.relays import SHORT_LEASE, add, committed, in_kafka, rows_of, running, write
from tests.support.topics import Topics, versions_by_aggregate
from tests.support.waiting import eventually
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, all_topics, dead_letters
from workers.runtime.kafka import ensure_topics


def test_every_committed_event_reaches_kafka_with_its_key_and_is_marked(db: Engine, topics: Topics, offers: Offers) -> None:
    order = offers.running_order()
    published = metric("q2o_outbox_published_total")
    assert Relay(acting(db, "relay"), topics.kafka).run_once() == len(committed(db))
    assert set(in_kafka(topics)) == committed(db) == committed(db, published=True)
    assert metric("q2o_outbox_published_total") == published + len(committed(db))
    records = [record for record in topics.records(ORDERS) if record.key() == str(order.order_id).encode()]
    assert [dict(record.headers() or []).get("eventType") for record in records] == [
        b"OrderCreated",
        b"OrderSubmitted",
        b"OrderStarted",
    ]


def test_no_event_of_an_open_or_rolled_back_transaction_is_published(db: Engine, topics: Topics) -> None:
    relay = Relay(acting(db, "relay"), topics.kafka)
    with db.connect() as connection:
        add(connection, *rows_of(uuid4(), 1))
        assert relay.run_once() == 0
        connection.rollback()
    assert relay.run_once() == 0
    assert in_kafka(topics) == []


def test_a_lower_position_that_commits_late_is_not_lost(db: Engine, topics: Topics) -> None:
    relay = Relay(acting(db, "relay"), topics.kafka)
    early, late = uuid4(), uuid4()
    with db.begin() as connection:
        add(connection, *rows_of(late, 1))
        write(db, early, 1)
        assert relay.run_once() == 1
    assert relay.run_once() == 1
    assert set(in_kafka(topics)) == committed(db)


def test_a_new_event_does_not_overtake_one_that_another_relay_has_claimed(db: Engine, topics: Topics) -> None:
    aggregate, other = uuid4(), uuid4()
    write(db, aggregate, 1)
    with housekeeping(db) as connection:
        assert len(outbox.claim(connection, 10, SHORT_LEASE)) == 1
    write(db, aggregate, 2)
    write(db, other, 1)
    relay = Relay(acting(db, "relay"), topics.kafka)
    assert relay.run_once() == 1
    assert versions_by_aggregate(topics.events(ORDERS)) == {other: [1]}
    eventually(lambda: relay.run_once() == 2, "the lease of the other relay ends")
    assert versions_by_aggregate(topics.events(ORDERS))[aggregate] == [1, 2]


def test_a_claim_skips_the_aggregates_of_another_claim(db: Engine) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1)
    with housekeeping(db) as first:
        assert [event.aggregate_version for event in outbox.claim(first, 10, SHORT_LEASE)] == [1]
        write(db, aggregate, 2)
        with housekeeping(db) as second:
            assert outbox.claim(second, 10, SHORT_LEASE) == []


def test_two_relays_keep_the_order_of_every_aggregate_and_lose_nothing(db: Engine, topics: Topics) -> None:
    aggregates = [uuid4() for _ in range(10)]
    with running(Relay(acting(db, "relay"), topics.kafka, batch_size=7), Relay(acting(db, "relay"), topics.kafka, batch_size=7)):
        for version in range(1, 21):
            for aggregate in aggregates:
                write(db, aggregate, version)
        eventually(lambda: not committed(db, published=False), "everything is published")
    assert sorted(in_kafka(topics)) == sorted(committed(db))
    assert versions_by_aggregate(topics.events(ORDERS)) == {aggregate: list(range(1, 21)) for aggregate in aggregates}


def test_a_batch_may_end_in_the_middle_of_an_aggregate_and_the_next_goes_on_there(db: Engine, topics: Topics) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1, 2, 3, 4, 5)
    relay = Relay(acting(db, "relay"), topics.kafka, batch_size=2)
    assert [relay.run_once() for _ in range(4)] == [2, 2, 1, 0]
    assert versions_by_aggregate(topics.events(ORDERS)) == {aggregate: [1, 2, 3, 4, 5]}


def test_an_event_that_kafka_cannot_take_stops_its_aggregate_only(db: Engine, topics: Topics) -> None:
    blocked, free = uuid4(), uuid4()
    write(db, blocked, 1)
    write(db, blocked, 2, padding="x" * 2_000_000)
    write(db, blocked, 3)
    write(db, free, 1)
    relay = Relay(acting(db, "relay"), topics.kafka)
    assert relay.run_once() == 2
    write(db, free, 2)
    assert relay.run_once() == 1
    assert versions_by_aggregate(topics.events(ORDERS)) == {blocked: [1], free: [1, 2]}


def test_an_event_that_kafka_refuses_for_too_long_is_refused_for_good(db: Engine, topics: Topics) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1, padding="x" * 2_000_000)
    write(db, aggregate, 2)
    relay = Relay(acting(db, "relay"), topics.kafka)
    relay.run_once()
    refused_since(db, EVENT_REFUSED.time / 2)
    assert relay.run_once() == 0
    refused_since(db, EVENT_REFUSED.time * 2)

    relay.run_once()

    assert relay.run_once() == 1
    assert versions_by_aggregate(topics.events(ORDERS)) == {aggregate: [2]}
    with db.connect() as connection:
        [(status, reason)] = connection.execute(text("SELECT status, last_reason FROM outbox_event WHERE aggregate_version = 1"))
    assert (status, "large" in reason) == ("REFUSED", True)


def refused_since(db: Engine, time: timedelta) -> None:
    """Let Kafka have refused the refused event for this time, and let it be due."""
    with db.begin() as connection:
        statement = (
            "UPDATE outbox_event SET due_at = clock_timestamp(), refused_since = clock_timestamp() - CAST(:time AS interval)"
        )
        connection.execute(text(f"{statement} WHERE refused_since IS NOT NULL"), {"time": time})


def test_topics_are_made_once_and_each_has_its_dead_letters(topics: Topics) -> None:
    ensure_topics(topics.kafka, all_topics())
    assert dead_letters(ORDERS) in all_topics()
    assert topics.records(dead_letters(ORDERS)) == []
