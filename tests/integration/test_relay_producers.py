"""What the relay does when its producer refuses an event, dies, or gives up: other events go on, and a dead producer is replaced once."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from confluent_kafka import KafkaError, KafkaException
from sqlalchemy import Connection, select, text
from sqlalchemy import Engine as Database
from structlog.testing import capture_logs

from domain.store import outbox
from tests.support.made_up_producers import Confirming, be_due, relay_with
from tests.support.metrics import metric
from tests.support.relays import OUTBOX, committed, running, write
from tests.support.waiting import eventually
from workers.kafka.relay import BATCHES_IN_FLIGHT
from workers.runtime.outages import OutageError


def test_the_relay_goes_on_behind_an_event_that_fails(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    poisoned, sound = uuid4(), uuid4()
    write(db, poisoned, 1, 2)
    write(db, sound, 1, 2)
    before = metric("q2o_items_set_aside_total", loop="relay", item="event")
    relay = relay_with(db, monkeypatch, [Confirming({}, poison=str(poisoned))])

    with capture_logs():  # a trace with its values is longer in the making than the window of this relay, on a machine that is busy
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


@pytest.mark.parametrize("error", [KafkaError._FATAL, KafkaError._STATE])
def test_events_are_not_refused_because_their_producer_is_dead(db: Database, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    """To the library an error that was fatal before is none that is fatal now."""
    dead = Confirming({"produce": [KafkaException(KafkaError(error))] * 10})
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
    unused = [Confirming({}, unwanted=str(too_large), at_once=5) for _ in range(1_000)]
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
