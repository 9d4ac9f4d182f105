"""Which relay has an aggregate, when one stands still, or cannot delete what it has sent before its lease is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy import Engine as Database

from domain.store import outbox
from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.made_up_producers import Clock, Confirming, be_due, relay_with
from tests.support.relays import committed, running, write
from tests.support.waiting import eventually
from workers.runtime.outages import OutageError

LEASE = timedelta(seconds=30)


class Standing(Confirming):
    """A producer whose relay stands still once: for a minute, in which `meanwhile` happens, when it has confirmed `confirmed` records."""

    def __init__(self, clock: Clock, meanwhile: Callable[[], object], confirmed: int = 1_000, call: str = "poll") -> None:
        super().__init__({}, at_once=confirmed)
        self._clock, self._meanwhile, self._call = clock, [meanwhile], call

    def produce(self, *given: Any, **options: Any) -> None:
        super().produce(*given, **options)
        self._stand_still("produce")

    def poll(self, seconds: float) -> int:
        answer = super().poll(seconds)
        self._stand_still("poll")
        return answer

    def _stand_still(self, call: str) -> None:
        if call == self._call and self._meanwhile:
            self._clock.now += 60
            self._meanwhile.pop()()


def claim(db: Database) -> list[outbox.PendingEvent]:
    """Claim as another relay, after every lease is over."""
    be_due(db)
    with housekeeping(acting(db, "relay")) as connection:
        return outbox.claim(connection, 1_000, LEASE)


def leased_until(db: Database, aggregate_id: UUID) -> str:
    """The end of the lease that the oldest event of an aggregate carries."""
    query = "SELECT CAST(due_at AS text) FROM outbox_event WHERE aggregate_id = :aggregate ORDER BY position LIMIT 1"
    with db.connect() as connection:
        return str(connection.scalar(text(query), {"aggregate": aggregate_id}))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock.of_relays(monkeypatch)


@pytest.mark.parametrize("confirmed", [0, 1])
def test_a_relay_that_stood_still_leaves_the_lease_of_the_one_that_went_on_as_it_is(
    db: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock, confirmed: int
) -> None:
    """Kills: a third relay that sends what the second one is still sending, four seconds after the first one has woken up."""
    aggregate, claimed = uuid4(), list[outbox.PendingEvent]()
    write(db, aggregate, 1, 2)
    still = Standing(clock, lambda: claimed.extend(claim(db)), confirmed)

    relay_with(db, monkeypatch, [still, Confirming({})]).run_once()

    assert [event.aggregate_version for event in claimed] == [1, 2]
    assert leased_until(db, aggregate) == claimed[0].leased_until


def test_a_relay_postpones_what_nobody_has_claimed_since_its_lease_was_over(
    db: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1, 2)

    relay_with(db, monkeypatch, [Standing(clock, lambda: None, confirmed=1), Confirming({})]).run_once()

    assert len(committed(db, published=False)) == 1
    with housekeeping(acting(db, "relay")) as connection:
        assert outbox.claim(connection, 10, LEASE) == []


def test_events_whose_deletion_failed_are_not_sent_again_by_their_own_relay(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: claiming them again after an outage of the database that was longer than the lease."""
    aggregate, failures = uuid4(), [OutageError("the database is away")]
    write(db, aggregate, 1, 2)
    delete = outbox.delete_published

    def deleted(connection: Connection, positions: list[int]) -> None:
        if failures:
            be_due(db)
            raise failures.pop()
        delete(connection, positions)

    monkeypatch.setattr(outbox, "delete_published", deleted)
    producer = Confirming({})

    with running(relay_with(db, monkeypatch, [producer])):
        eventually(lambda: not committed(db, published=False), "everything is published")

    assert producer.keys == [str(aggregate)] * 2


def test_a_relay_that_stood_still_between_two_batches_sends_none_of_the_first_one_again(
    db: Database, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    aggregate = uuid4()
    write(db, aggregate, 1)
    producer = Standing(clock, lambda: be_due(db), call="produce")

    with running(relay_with(db, monkeypatch, [producer])):
        eventually(lambda: not committed(db, published=False), "everything is published")

    assert producer.keys == [str(aggregate)]
