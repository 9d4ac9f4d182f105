"""What the relay does when its producer refuses an event, dies, or gives up: other events go on, and a dead producer is replaced once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException
from sqlalchemy import Connection, select, text
from sqlalchemy import Engine as Database

from domain.store import outbox
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.relays import OUTBOX, committed, running, write
from tests.support.waiting import eventually
from workers.kafka.relay import BATCHES_IN_FLIGHT, Relay
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.outages import OutageError


class Confirming:
    """A producer whose broker confirms everything but what is `too_large`, `at_once` records in a poll.

    The calls in `raises` raise, each as often as it says.
    """

    def __init__(self, raises: dict[str, list[Exception]], poison: str = "", too_large: str = "", at_once: int = 1_000) -> None:
        self._raises = raises
        self._poison = poison
        self._too_large = too_large
        self._at_once = at_once
        self._sent: list[tuple[bytes, Any]] = []

    def produce(self, _topic: str, _value: bytes, key: bytes, **options: Any) -> None:
        self._raise("produce")
        if self._poison and self._poison.encode() in key:
            raise ValueError("a value that the library does not take")
        self._sent.append((key, options["on_delivery"]))

    def poll(self, _: float) -> int:
        self._raise("poll")
        for _ in range(min(self._at_once, len(self._sent))):
            key, report = self._sent.pop(0)
            is_refused = self._too_large and self._too_large.encode() in key
            report(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE) if is_refused else None, None)
        return 0

    def purge(self) -> None:
        self._raise("purge")
        while self._sent:
            _, report = self._sent.pop()
            report(KafkaError(KafkaError._PURGE_QUEUE), None)

    def flush(self, _: float) -> int:
        self._raise("flush")
        return 0

    def _raise(self, call: str) -> None:
        if self._raises.get(call):
            raise self._raises[call].pop(0)


def relay_with(db: Database, monkeypatch: pytest.MonkeyPatch, producers: list[Confirming], batch_size: int = 1_000) -> Relay:
    """Make a relay that uses these producers in turn."""
    monkeypatch.setattr("workers.kafka.relay.new_producer", lambda *_: producers.pop(0))
    return Relay(acting(db, "relay"), KafkaAccess(bootstrap="127.0.0.1:9"), batch_size=batch_size, lease=timedelta(seconds=2))


def be_due(db: Database) -> None:
    """Let the wait of every event be over."""
    with db.begin() as connection:
        connection.execute(text("UPDATE outbox_event SET due_at = clock_timestamp()"))


def test_the_relay_goes_on_behind_an_event_that_fails(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned, sound = uuid4(), uuid4()
    write(db, poisoned, 1, 2)
    write(db, sound, 1, 2)
    before = metric("q2o_items_set_aside_total", loop="relay", item="event")
    relay = relay_with(db, monkeypatch, [Confirming({}, poison=str(poisoned))])

    published = relay.run_once()

    assert (published, len(committed(db, published=False))) == (2, 2)
    assert metric("q2o_items_set_aside_total", loop="relay", item="event") == before + 1


FATAL = KafkaException(KafkaError(KafkaError._GAPLESS_GUARANTEE, "a gap", fatal=True))


@pytest.mark.parametrize("call", ["poll", "flush", "purge", "produce"])
@pytest.mark.parametrize("error", [FATAL, SystemError("flush returned a result with an exception set")])
def test_the_relay_replaces_a_producer_that_met_a_fatal_error(
    db: Database, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception
) -> None:
    write(db, uuid4(), 1, 2)
    dead = Confirming({"poll": [FATAL], call: [error] * 2})
    relay = relay_with(db, monkeypatch, [dead, Confirming({})])

    relay.run_once()

    be_due(db)
    relay.run_once()
    assert not committed(db, published=False)


def test_events_are_not_refused_because_their_producer_is_dead(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the library an error that was fatal before is none that is fatal now."""
    dead = Confirming({"produce": [KafkaException(KafkaError(KafkaError._FATAL))] * 10})
    write(db, uuid4(), 1, 2)
    relay = relay_with(db, monkeypatch, [dead, Confirming({})])

    relay.run_once()

    with db.connect() as connection:
        assert connection.scalars(text("SELECT refused_since FROM outbox_event WHERE refused_since IS NOT NULL")).all() == []
    be_due(db)
    relay.run_once()
    assert not committed(db, published=False)


def test_an_event_that_kafka_refuses_delays_only_what_was_on_its_way_with_it(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: a broken batch that takes the producer of the next one away, which breaks that one, and so on."""
    too_large, *others = (uuid4() for _ in range(100))
    for aggregate in (too_large, *others):
        write(db, aggregate, 1)
    unused = [Confirming({}, too_large=str(too_large), at_once=5) for _ in range(1_000)]
    before = len(unused)
    relay = relay_with(db, monkeypatch, unused, batch_size=5)

    with running(relay):
        eventually(lambda: len(committed(db, published=False)) == 1, "all but the refused event are published")

    with db.connect() as connection:
        [tries] = connection.scalars(select(OUTBOX.c.attempts)).all()
    assert before - len(unused) <= 1 + tries


def test_no_more_batches_are_on_their_way_after_a_deletion_that_failed(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: taking a batch in every step and settling none, once more than two are on their way."""
    for _ in range(40):
        write(db, uuid4(), 1)
    claim, delete = outbox.claim, outbox.delete_published
    on_their_way, failures = [0], [OutageError("the session is cut")]

    def claimed(connection: Connection, limit: int, lease: timedelta) -> list[outbox.PendingEvent]:
        events = claim(connection, limit, lease)
        on_their_way.append(on_their_way[-1] + bool(events))
        return events

    def deleted(connection: Connection, positions: list[int]) -> None:
        if failures:
            raise failures.pop()
        delete(connection, positions)
        on_their_way.append(on_their_way[-1] - 1)

    monkeypatch.setattr(outbox, "claim", claimed)
    monkeypatch.setattr(outbox, "delete_published", deleted)

    with running(relay_with(db, monkeypatch, [Confirming({})], batch_size=5)):
        eventually(lambda: not committed(db, published=False), "everything is published")

    assert max(on_their_way) == BATCHES_IN_FLIGHT
