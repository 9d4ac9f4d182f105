"""The inbox on real PostgreSQL and Kafka (races 9 and 10, invariant I20).

Each event counts once, a projection never goes backwards, and an unreadable message does not stop the inbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from uuid import UUID, uuid4

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import Engine, create_engine, func, select, text

from domain.errors import TryAgain
from domain.projections.tables import ConsumerInbox, OrderSearchProjection
from domain.store import table_of
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.kafka import views
from workers.kafka.inbox import Inbox
from workers.kafka.topics import ORDERS, dead_letters
from workers.runtime.kafka import new_consumer, new_producer

SEARCH, SEEN = table_of(OrderSearchProjection), table_of(ConsumerInbox)
TYPES = {1: "OrderCreated", 2: "OrderStarted", 3: "OrderCancelled"}
STATUSES = {1: "CREATED", 2: "IN_PROGRESS", 3: "CANCELLED"}
HEADER = {
    "orderNumber": "O-1",
    "orderKind": "PRIMARY",
    "customerId": "customer-1",
    "priority": 4,
    "currency": "EUR",
    "netTotal": "10.00",
    "requestedCompletion": None,
    "holdReason": None,
    **dict.fromkeys(("createdAt", "updatedAt"), "2026-11-24T10:00:00Z"),
}


@dataclass
class PublishedOrder:
    """The three events of one order, which can be published in any order and repeatedly."""

    topics: Topics
    order_id: UUID = field(default_factory=uuid4)
    tenant_id: UUID = field(default_factory=uuid4)
    quote_id: UUID = field(default_factory=uuid4)
    event_ids: dict[int, UUID] = field(default_factory=lambda: {version: uuid4() for version in TYPES})

    def publish(self, *versions: int) -> None:
        self.send(*(self.message(version) for version in versions))

    def message(self, version: int) -> bytes:
        header = {**HEADER, "quoteId": str(self.quote_id), "quoteRevisionId": str(self.quote_id), "status": STATUSES[version]}
        envelope = {
            "eventId": str(self.event_ids[version]),
            "eventType": TYPES[version],
            "eventTime": "2026-11-24T10:00:00Z",
            "tenantId": str(self.tenant_id),
            "aggregateType": "sales_order",
            "aggregateId": str(self.order_id),
            "aggregateVersion": version,
            "correlationId": f"order:{self.order_id}",
            "causationId": None,
            "commandId": str(uuid4()),
            "businessKey": None,
            "schemaVersion": 1,
            "data": header,
        }
        return json.dumps(envelope).encode()

    def send(self, *values: bytes) -> None:
        """Publish values under the order's key: one partition, in this order."""
        producer = new_producer(self.topics.kafka, None)
        for value in values:
            producer.produce(ORDERS, value, str(self.order_id).encode())
        assert producer.flush(30) == 0


@pytest.fixture
def order(topics: Topics) -> PublishedOrder:
    return PublishedOrder(topics)


@pytest.fixture
def group() -> str:
    return f"test-{uuid4()}"


@contextmanager
def member(engine: Engine, topics: Topics, group: str) -> Iterator[Inbox]:
    inbox = Inbox(acting(engine, "inbox"), topics.kafka, views.ORDERS, group=group)
    try:
        yield inbox
    finally:
        inbox.close()


def consume(engine: Engine, topics: Topics, group: str, count: int) -> None:
    """Let a new member of the group process exactly `count` messages."""
    with member(engine, topics, group) as inbox:
        assert process_messages(inbox, count) == count


def process_messages(inbox: Inbox, count: int) -> int:
    """Run until at least `count` messages are processed; returns how many were."""
    done = 0

    def enough() -> bool:
        nonlocal done
        done += inbox.run_once()
        return done >= count

    eventually(enough, f"{count} messages dealt with")
    return done


def shown(engine: Engine) -> list[tuple[UUID, int, str]]:
    with engine.connect() as connection:
        rows = connection.execute(select(SEARCH.c.order_id, SEARCH.c.aggregate_version, SEARCH.c.status))
        return [(row.order_id, row.aggregate_version, row.status) for row in rows]


def seen(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(SEEN)) or 0


def skipped(version: int) -> float:
    return metric("q2o_inbox_duplicates_skipped_total", consumer=views.ORDERS.consumer, event_type=TYPES[version])


def ignored(version: int) -> float:
    return metric("q2o_projection_stale_events_ignored_total", projection=views.ORDERS.projection, event_type=TYPES[version])


@pytest.mark.parametrize("versions", [(3, 1, 2), (1, 2, 3), (2, 3, 1), (3, 2, 1)])
def test_the_view_shows_the_newest_version_in_any_order_of_events(
    db: Engine, order: PublishedOrder, group: str, versions: tuple[int, ...]
) -> None:
    before = {version: ignored(version) for version in versions}
    order.publish(*versions)
    consume(db, order.topics, group, 3)
    assert shown(db) == [(order.order_id, 3, "CANCELLED")]
    late = {version for place, version in enumerate(versions) if version < max(versions[: place + 1])}
    assert {version for version in versions if ignored(version) > before[version]} == late
    assert seen(db) == 3


def test_an_event_that_kafka_delivers_again_has_one_effect_and_is_counted(db: Engine, order: PublishedOrder, group: str) -> None:
    before = skipped(1), skipped(2)
    order.publish(1, 2, 1, 2, 2)
    consume(db, order.topics, group, 5)
    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]
    assert seen(db) == 2
    assert (skipped(1), skipped(2)) == (before[0] + 1, before[1] + 2)


def test_offsets_that_are_set_back_change_nothing(db: Engine, order: PublishedOrder, group: str) -> None:
    order.publish(1, 2, 3)
    consume(db, order.topics, group, 3)
    before = sum(map(skipped, TYPES))
    consumer = new_consumer(order.topics.kafka, group)
    partitions = consumer.list_topics(ORDERS).topics[ORDERS].partitions
    lows = [consumer.get_watermark_offsets(TopicPartition(ORDERS, each))[0] for each in partitions]
    offsets = [TopicPartition(ORDERS, each, low) for each, low in zip(partitions, lows, strict=True)]
    consumer.commit(offsets=offsets, asynchronous=False)
    consumer.close()
    consume(db, order.topics, group, 3)
    assert shown(db) == [(order.order_id, 3, "CANCELLED")]
    assert seen(db) == 3
    assert sum(map(skipped, TYPES)) == before + 3


def test_a_successor_goes_on_where_the_group_stopped(db: Engine, order: PublishedOrder, group: str) -> None:
    order.publish(1)
    consume(db, order.topics, group, 1)
    order.publish(2)
    before = skipped(1)
    consume(db, order.topics, group, 1)
    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]
    assert skipped(1) == before


def test_an_unreadable_message_goes_to_the_dead_letters_with_its_reason_and_stops_no_other(
    db: Engine, order: PublishedOrder, group: str
) -> None:
    nameless = order.message(1).replace(b'"orderNumber"', b'"number"')
    order.send(b"rubbish", nameless, order.message(2))
    consume(db, order.topics, group, 3)
    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]
    letters = order.topics.records(dead_letters(ORDERS))
    assert [letter.value() for letter in letters] == [b"rubbish", nameless]
    assert {letter.key() for letter in letters} == {str(order.order_id).encode()}
    reasons = [dict(letter.headers() or [])["deadLetterReason"] for letter in letters]
    assert b"not JSON" in (reasons[0] or b"")
    assert b"orderNumber" in (reasons[1] or b"")


def test_a_message_comes_again_when_the_database_could_not_take_it(db: Engine, order: PublishedOrder, group: str) -> None:
    impatient = create_engine(acting(db, "inbox").url, connect_args={"options": "-c lock_timeout=200", "prepare_threshold": None})
    order.publish(1, 2)
    with member(impatient, order.topics, group) as inbox:
        with db.begin() as blocker:
            blocker.execute(text("LOCK TABLE consumer_inbox IN EXCLUSIVE MODE"))
            eventually(lambda: busy(inbox), "the database refuses")
        assert process_messages(inbox, 2) == 2
    impatient.dispose()
    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]


def busy(inbox: Inbox) -> bool:
    try:
        inbox.run_once()
    except TryAgain:
        return True
    return False


def test_the_loop_waits_out_a_busy_database_and_ends_when_it_is_stopped(db: Engine, order: PublishedOrder, group: str) -> None:
    impatient = create_engine(acting(db, "inbox").url, connect_args={"options": "-c lock_timeout=200", "prepare_threshold": None})
    stop = Event()
    loop = Thread(target=Inbox(impatient, order.topics.kafka, views.ORDERS, group=group).run, args=(stop,))
    with db.begin() as blocker:
        blocker.execute(text("LOCK TABLE consumer_inbox IN EXCLUSIVE MODE"))
        loop.start()
        order.publish(1)
        eventually(
            lambda: blocker.scalar(
                text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'consumer_inbox'::regclass")
            ),
            "the inbox meets the lock",
        )
    eventually(lambda: shown(db), "the event is projected")
    stop.set()
    loop.join(30)
    assert not loop.is_alive()
    impatient.dispose()
    assert shown(db) == [(order.order_id, 1, "CREATED")]


def test_a_second_member_takes_over_from_one_that_left(db: Engine, order: PublishedOrder, group: str) -> None:
    stop = Event()
    first = Thread(target=Inbox(acting(db, "inbox"), order.topics.kafka, views.ORDERS, group=group).run, args=(stop,))
    first.start()
    order.publish(1)
    eventually(lambda: seen(db) == 1, "the first member works")
    stop.set()
    first.join(30)
    order.publish(2, 3)
    consume(db, order.topics, group, 2)
    assert shown(db) == [(order.order_id, 3, "CANCELLED")]
