"""Records that nobody can process, on real PostgreSQL and Kafka: each becomes a dead letter, and the next event is still projected."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_bytes
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs name only their own classes
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from tests.integration.test_kafka_inbox import PublishedOrder, consume, shown
from tests.support.metrics import metric
from tests.support.topics import Topics
from tests.support.unfit import nested
from workers.kafka.dead_letters import LARGEST_LETTER
from workers.kafka.topics import ORDERS, dead_letters

MEGABYTE = b"x" * 999_000  # the most that a producer sends, without its own fields
POISONS = {
    "half of a surrogate pair": lambda order: order.message(1).replace(b"customer-1", rb"\ud83d"),
    "a NUL": lambda order: order.message(1).replace(b"customer-1", rb"\u0000"),
    "a time of which the year is not there in UTC": lambda order: order.message(1).replace(
        b'"requestedCompletion": null', b'"requestedCompletion": "0001-01-01T00:00:00+14:00"'
    ),
    "many levels": lambda order: order.message(1).replace(b'"customer-1"', nested(986).encode()),
    "a row that the database refuses": lambda order: order.message(1).replace(b"customer-1", b"refused"),
    "no value": lambda _: None,
    "a megabyte": lambda _: MEGABYTE,
    "five megabytes, compressed": lambda _: MEGABYTE * 5,
}


@pytest.fixture
def order(topics: Topics) -> PublishedOrder:
    return PublishedOrder(topics)


@contextmanager
def refusing_a_customer(engine: Engine) -> Iterator[None]:
    """As a constraint of a later release does, which this one does not know."""
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE order_search_projection ADD CONSTRAINT later CHECK (customer_id <> 'refused')"))
    try:
        yield
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE order_search_projection DROP CONSTRAINT later"))


def headers_of(letter: Message) -> dict[str, str]:
    headers: Any = letter.headers() or []
    return {name: value.decode() for name, value in headers}


def send(order: PublishedOrder, value: bytes | None, key: bytes | None = None, **headers: bytes) -> None:
    producer = Producer(
        {
            "bootstrap.servers": order.topics.kafka.bootstrap,
            "compression.type": "lz4",
            "message.max.bytes": 20_000_000,
            "log_level": 0,
        }
    )
    producer.produce(ORDERS, value, key or str(order.order_id).encode(), headers=list(headers.items()))
    assert producer.flush(30) == 0


def dead_letters_counted() -> float:
    return metric("q2o_inbox_dead_letters_total", consumer="order-search", topic=ORDERS)


@pytest.mark.parametrize("poison", POISONS.values(), ids=POISONS)
def test_a_record_that_nobody_can_process_stops_no_other(db: Engine, order: PublishedOrder, poison: object) -> None:
    before, letters = metric("q2o_items_set_aside_total", loop="inbox", item="message"), dead_letters_counted()
    send(order, poison(order), eventId=b"e-1")  # type: ignore[operator]  # a function
    order.publish(2)

    with refusing_a_customer(db), capture_logs() as logs:
        consume(db, order.topics, f"test-{uuid4()}", 2)

    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]
    assert metric("q2o_items_set_aside_total", loop="inbox", item="message") == before + 1
    assert dead_letters_counted() == letters + 1
    [letter] = order.topics.records(dead_letters(ORDERS))
    headers = headers_of(letter)
    assert (headers["eventId"], bool(headers["deadLetterReason"])) == ("e-1", True)
    assert headers["deadLetterSource"].startswith(ORDERS)
    [told] = [log for log in logs if log["event"] == "item_set_aside"]
    assert (told["eventId"], told["source"]) == ("e-1", headers["deadLetterSource"])


def test_a_letter_that_is_cut_says_how_large_its_record_is(db: Engine, order: PublishedOrder) -> None:
    send(order, MEGABYTE)

    consume(db, order.topics, f"test-{uuid4()}", 1)

    [letter] = order.topics.records(dead_letters(ORDERS))
    assert headers_of(letter)["deadLetterCut"] == "999000"
    assert letter.value() == MEGABYTE[:LARGEST_LETTER]


def test_a_key_and_headers_without_end_are_left_out_of_the_letter(db: Engine, order: PublishedOrder) -> None:
    send(order, b"rubbish", b"k" * 300_000, many=b"h" * 300_000)

    consume(db, order.topics, f"test-{uuid4()}", 1)

    [letter] = order.topics.records(dead_letters(ORDERS))
    assert (letter.key(), letter.value()) == (None, b"rubbish")
    assert set(headers_of(letter)) == {"deadLetterReason", "deadLetterSource", "deadLetterWithout"}
    assert headers_of(letter)["deadLetterWithout"] == "key, headers"


@contextmanager
def taking_at_most(topics: Topics, size: int) -> Iterator[None]:
    """A dead-letter topic that takes less than the topic of the records."""
    client = AdminClient({"bootstrap.servers": topics.kafka.bootstrap})

    def change(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, dead_letters(ORDERS), incremental_configs=[entry])
        for future in client.incremental_alter_configs([resource]).values():
            future.result(30)

    change(AlterConfigOpType.SET)
    try:
        yield
    finally:
        change(AlterConfigOpType.DELETE)


def test_a_broker_that_takes_only_small_letters_gets_one_that_fits(db: Engine, order: PublishedOrder) -> None:
    incompressible = token_bytes(32_000)
    send(order, incompressible)
    order.publish(2)

    with taking_at_most(order.topics, 1_000):
        consume(db, order.topics, f"test-{uuid4()}", 2)

    [letter] = order.topics.records(dead_letters(ORDERS))
    assert (letter.value(), headers_of(letter)["deadLetterCut"]) == (None, "32000")
    assert shown(db) == [(order.order_id, 2, "IN_PROGRESS")]
