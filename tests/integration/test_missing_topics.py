"""A missing topic, on a broker that creates none by itself: what is sent to it is refused, and no other topic waits for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from tests.support.brokers import without_new_topics
from tests.support.database import acting
from tests.support.relays import add, committed, rows_of
from tests.support.services import local_stack
from workers.kafka.dead_letters import REASON, SOURCE, refusal_of
from workers.kafka.letters import Letters, Replay, Sent
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, dead_letters
from workers.runtime.kafka import ensure_topics, new_producer
from workers.runtime.kafka_access import KafkaAccess

THERE = "cpq.quote.v1"


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaAccess]:
    """A broker that has one topic for events, and one for the dead letters of another topic."""
    with without_new_topics(), local_stack(tmp_path_factory, {"kafka"}) as running:
        kafka = KafkaAccess(bootstrap=running.kafka.bootstrap)
        ensure_topics(kafka, [THERE, dead_letters(ORDERS)])
        yield kafka


def test_an_event_whose_topic_is_missing_is_refused_and_holds_back_no_other_topic(db: Engine, kafka: KafkaAccess) -> None:
    """Kills: taking it for an outage, because the library says only after the relay's window that a topic does not exist."""
    [missing], [there] = rows_of(uuid4(), 1), rows_of(uuid4(), 1)
    with db.begin() as connection:
        add(connection, {**missing, "topic": ORDERS}, {**there, "topic": THERE})

    published = Relay(acting(db, "relay"), kafka).run_once()

    with db.connect() as connection:
        refused = connection.execute(text("SELECT id, last_reason FROM outbox_event WHERE refused_since IS NOT NULL")).all()
    assert (published, committed(db, published=True)) == (1, {there["id"]})
    assert refused == [(missing["id"], "Broker: Unknown topic or partition")]


def test_a_dead_letter_whose_topic_is_missing_is_refused_and_waits_on(kafka: KafkaAccess) -> None:
    """Kills: calling the outcome unknown, although the record was certainly not sent."""
    headers = [(SOURCE, f"{ORDERS}/0/0".encode()), (REASON, b"it is no event")]
    assert refusal_of(new_producer(kafka, timedelta(seconds=10)), dead_letters(ORDERS), b"{}", b"key", headers) is None
    letters = Letters(kafka)

    sent, told = letters.replay(letters.all([ORDERS])[0])

    assert (sent, told) == (Sent.TOPIC_REFUSED, "was refused by Kafka: Broker: Unknown topic or partition")
    assert [letter.replay for letter in letters.all([ORDERS])] == [Replay.NONE]
