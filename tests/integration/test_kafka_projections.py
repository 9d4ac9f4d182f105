"""All projections on real PostgreSQL and Kafka, as the inbox process runs them: repeated, lost and unreadable messages (races M6 and M7)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event, Thread

import pytest
from confluent_kafka import TopicPartition
from sqlalchemy import Engine

from domain.projections.tables import Projection
from tests.support.as_read import Offer
from tests.support.database import acting, empty
from tests.support.metrics import metric
from tests.support.offers import Offers, offers_of_new_tenant
from tests.support.projected import consume_until, events_seen, rows
from tests.support.relays import committed
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.kafka.inbox import Inbox, Inboxes
from workers.kafka.relay import Relay
from workers.kafka.topics import dead_letters
from workers.kafka.views import ORDERS, QUOTES, VIEWS, View
from workers.runtime.kafka import new_consumer, new_producer

TYPES = (
    *("QuoteCreated", "QuotePriced", "QuoteSubmitted", "QuoteApprovalStarted", "QuoteApproved", "QuoteAccepted"),
    *("ApprovalRequired", "ApprovalDecided", "OrderCreated", "OrderSubmitted", "OrderStarted"),
)


@dataclass(frozen=True, slots=True)
class Story:
    """An approved quote with its order, of which every record was published again, beside a record that nobody can read."""

    offers: Offers
    offer: Offer
    distinct: int
    skipped: float
    letters: int


def skipped(view: View) -> float:
    return metric_sum("q2o_inbox_duplicates_skipped_total", consumer=view.consumer)


def metric_sum(name: str, **labels: str) -> float:
    """The sum of a counter over the types of events that the story has."""
    return sum(metric(name, event_type=each, **labels) for each in TYPES)


def publish_again(topics: Topics) -> int:
    """Publish every record of the projected topics once more; returns how many there are."""
    producer = new_producer(topics.kafka, None)
    records = [record for view in VIEWS for record in topics.records(view.topic)]
    for record in records:
        producer.produce(str(record.topic()), record.value(), record.key(), headers=record.headers())
    assert producer.flush(30) == 0
    return len(records)


def poison(topics: Topics) -> None:
    """Put a record that no consumer can read before all others into the topic of quotes."""
    producer = new_producer(topics.kafka, None)
    producer.produce(QUOTES.topic, b"rubbish", b"key")
    assert producer.flush(30) == 0


@pytest.fixture(scope="module")
def story(migrated: Engine, made_topics: Topics) -> Iterator[Story]:
    """Run the inbox process once; the tests look at what it has left."""
    empty(migrated)
    made_topics.empty()
    offers = offers_of_new_tenant(migrated)
    offer = offers.quote(offers.accepted_quote().quote_id)
    poison(made_topics)
    before = sum(map(skipped, VIEWS))
    eventually(lambda: Relay(acting(migrated, "relay"), made_topics.kafka).run_once() == 0, "everything is published")
    distinct = publish_again(made_topics) - 1
    stop = Event()
    process = Inboxes.of(acting(migrated, "inbox"), made_topics.kafka)
    thread = Thread(target=process.run, args=(stop,))
    thread.start()
    try:
        eventually(lambda: sum(map(skipped, VIEWS)) >= before + distinct, "everything is read twice", patience=90)
    finally:
        stop.set()
        thread.join(60)
    skips = sum(map(skipped, VIEWS)) - before
    yield Story(offers, offer, distinct, skips, len(made_topics.records(dead_letters(QUOTES.topic))))
    empty(migrated)


def test_every_distinct_event_is_seen_once_and_each_repeat_is_counted(migrated: Engine, story: Story) -> None:
    assert (events_seen(migrated), story.skipped) == (story.distinct, story.distinct)
    assert not committed(migrated, published=False)


def test_a_decision_that_was_published_twice_counts_once(migrated: Engine, story: Story) -> None:
    [decision] = rows(migrated, Projection.DECISIONS)

    assert (decision.quote_id, decision.decision) == (story.offer.quote_id, "APPROVE")


def test_a_quote_shows_its_newest_version_and_its_price(migrated: Engine, story: Story) -> None:
    [quote] = rows(migrated, Projection.QUOTES)

    assert (quote.quote_id, quote.status, quote.aggregate_version) == (story.offer.quote_id, "ACCEPTED", story.offer.version)
    assert (quote.net_total > 0, quote.gap_since) == (True, None)


def test_a_record_that_cannot_be_read_goes_to_the_dead_letters_and_delays_nothing(migrated: Engine, story: Story) -> None:
    """It comes before the quote in its topic, and is published twice."""
    assert story.letters == 2
    assert len(rows(migrated, Projection.ORDERS)) == 1


def test_a_batch_that_is_rewound_is_skipped_event_by_event(migrated: Engine, story: Story, made_topics: Topics) -> None:
    before, view = skipped(ORDERS), [row.projected_at for row in rows(migrated, Projection.ORDERS)]
    repeats = len(made_topics.records(ORDERS.topic))
    rewind(made_topics, f"q2o.{ORDERS.consumer}", ORDERS.topic)
    inbox = Inbox(acting(migrated, "inbox"), made_topics.kafka, ORDERS)

    consume_until(inbox, lambda: skipped(ORDERS) >= before + repeats, "the batch comes again")

    assert skipped(ORDERS) == before + repeats
    assert [row.projected_at for row in rows(migrated, Projection.ORDERS)] == view


def rewind(topics: Topics, group: str, topic: str) -> None:
    """Set the offsets of a group back to the first record of each partition."""
    consumer = new_consumer(topics.kafka, group)
    partitions = consumer.list_topics(topic).topics[topic].partitions
    lows = [consumer.get_watermark_offsets(TopicPartition(topic, each))[0] for each in partitions]
    consumer.commit(
        offsets=[TopicPartition(topic, each, low) for each, low in zip(partitions, lows, strict=True)], asynchronous=False
    )
    consumer.close()
