"""For how long Kafka refuses an event or a topic: since a time without an outage, and without a time in which nobody has tried."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError
from sqlalchemy import Engine as Database
from sqlalchemy import text

from domain.retry_rules import EVENT_REFUSED
from tests.support.made_up_producers import Clock, Confirming, be_due, relay_with
from tests.support.relays import write

TOO_LARGE, AWAY = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), KafkaError(KafkaError._TRANSPORT)
AFTERWARDS = EVENT_REFUSED.time + timedelta(minutes=1)


class Relayed:
    """Two events of an aggregate, and what a relay hears about both when it sends them."""

    def __init__(self, db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        self._db, self._patch, self._aggregate = db, monkeypatch, uuid4()
        write(db, self._aggregate, 1, 2)

    def hear(self, answer: KafkaError) -> None:
        """Send what is due."""
        producers = [Confirming({}, unwanted=str(self._aggregate), answer=answer), Confirming({})]
        relay_with(self._db, self._patch, producers).run_once()

    def pass_time(self, time: timedelta) -> None:
        """Let the events be due again, and refused earlier by this time."""
        be_due(self._db)
        self._move("refused_since", time)

    def leave_alone(self, time: timedelta) -> None:
        """Let this time pass without a try."""
        self.pass_time(time)
        self._move("due_at", time)

    def _move(self, column: str, time: timedelta) -> None:
        with self._db.begin() as connection:
            connection.execute(text(f"UPDATE outbox_event SET {column} = {column} - CAST(:time AS interval)"), {"time": time})

    @property
    def statuses(self) -> list[str]:
        with self._db.connect() as connection:
            return list(connection.scalars(text("SELECT status FROM outbox_event ORDER BY position")))


@pytest.fixture
def relayed(db: Database, monkeypatch: pytest.MonkeyPatch) -> Relayed:
    """Two events that Kafka has refused for the first time."""
    relayed = Relayed(db, monkeypatch)
    relayed.hear(TOO_LARGE)
    return relayed


def test_it_counts_from_the_first_refusal(relayed: Relayed) -> None:
    relayed.pass_time(AFTERWARDS)

    relayed.hear(TOO_LARGE)

    assert relayed.statuses == ["REFUSED", "REFUSED"]


def test_it_begins_anew_after_an_outage(db: Database, relayed: Relayed) -> None:
    """Kills: an event that is refused for good at its second refusal, because Kafka was away for an hour between the two."""
    relayed.pass_time(AFTERWARDS)
    relayed.hear(AWAY)
    be_due(db)

    relayed.hear(TOO_LARGE)

    assert relayed.statuses == ["PENDING", "PENDING"]


def test_it_begins_anew_when_nobody_has_tried_for_an_hour(relayed: Relayed) -> None:
    """Kills: an event that is refused for good at its second refusal, because no relay ran, or the database was away."""
    relayed.leave_alone(AFTERWARDS)

    relayed.hear(TOO_LARGE)

    assert relayed.statuses == ["PENDING", "PENDING"]


def test_it_goes_on_for_an_event_that_waited_behind_another_one(db: Database, relayed: Relayed) -> None:
    """Kills: taking an event for left alone because it was due before it was the oldest of its aggregate."""
    with db.begin() as connection:
        connection.execute(text("UPDATE outbox_event SET status = 'REFUSED' WHERE aggregate_version = 1"))
    relayed.leave_alone(AFTERWARDS)

    relayed.hear(TOO_LARGE)

    assert relayed.statuses == ["REFUSED", "REFUSED"]


def test_a_topic_that_kafka_refuses_is_asked_for_again_when_an_event_would_be(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: waiting in each batch for the library to say again that a topic is missing, which holds back every other topic."""
    first, second = uuid4(), uuid4()
    missing, clock = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART), Clock.of_relays(monkeypatch)
    producer = Confirming({})
    relay = relay_with(db, monkeypatch, [Confirming({}, unwanted=str(first), answer=missing), producer])
    write(db, first, 1)
    relay.run_once()
    write(db, second, 1, 2)

    refused = relay.run_once()

    assert (refused, producer.keys) == (0, [])
    with db.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM outbox_event WHERE refused_since IS NOT NULL")) == 3
    clock.now += EVENT_REFUSED.longest_wait.total_seconds()
    be_due(db)
    assert relay.run_once() == 3
