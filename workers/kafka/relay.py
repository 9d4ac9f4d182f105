"""Carries committed events to Kafka: each at least once, the events of one aggregate in their order, with any number of relays.

The rules it keeps: an event leaves only after its transaction has committed; no transaction is open while the relay waits for Kafka; an
event is deleted when Kafka has confirmed it and all earlier ones of its aggregate. Events that a killed relay had sent and not
deleted are sent again when its lease has ended: consumers recognise an event by its id.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from math import nan
from threading import Event

import structlog
from confluent_kafka import KafkaException, Producer
from sqlalchemy import Engine as Database

from domain.retry_rules import EVENT_REFUSED
from domain.store import outbox
from domain.store.outbox import PendingEvent, Stuck
from domain.store.unit_of_work import housekeeping
from workers.kafka import wire
from workers.kafka.batches import Batch, RefusedTopics
from workers.runtime.kafka import new_producer
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.metrics import OUTBOX_OLDEST_UNPUBLISHED, OUTBOX_PUBLISHED, OUTBOX_UNPUBLISHED
from workers.runtime.outages import is_outage, is_waited_out
from workers.runtime.retries import repeat
from workers.runtime.set_aside import set_aside

BATCH_SIZE = 2_000
# How long, from the claim, no other relay may take the same aggregates. The delivery window is two thirds of it, so that a relay has
# given up an event for good before another one may send it.
LEASE = EVENT_REFUSED.call * 3 / 2
# From commit to Kafka within 50 ms when idle: this wait, the claim and the acknowledgement together.
IDLE_WAIT = timedelta(milliseconds=20)
# While one batch is confirmed by Kafka, the next one is read from PostgreSQL.
BATCHES_IN_FLIGHT = 2
GAUGE_INTERVAL_SECONDS = 5.0
# At the end: events that Kafka confirms within this time are deleted, the next relay sends the others.
STOP_GRACE_SECONDS = 5.0
PURGE_SECONDS = 1.0
ABANDONS = 3
# What the library's calls raise after a fatal error: to give up a record that is on its way is one, because a gap may be left behind it.
# `flush` raises it as a SystemError.
PRODUCER_DIED = (KafkaException, SystemError)
_log = structlog.get_logger()


class Relay:
    """One relay. Run as many as are needed; each has a producer of its own."""

    def __init__(self, database: Database, kafka: KafkaAccess, *, batch_size: int = BATCH_SIZE, lease: timedelta = LEASE) -> None:
        self._database = database
        self._new_producer: Callable[[], Producer] = partial(new_producer, kafka, None)
        self._producer = self._new_producer()
        self._batch_size = batch_size
        self._lease = lease
        self._window = lease.total_seconds() * 2 / 3
        self._in_flight: deque[Batch] = deque()
        self._refused_topics = RefusedTopics()
        self._gauged_at = -GAUGE_INTERVAL_SECONDS

    def run_once(self) -> int:
        """Send pending events, wait for Kafka's confirmations and delete them; return how many events were published.

        Raises the database's errors: events that Kafka has by then are sent again later.
        """
        self._take()
        return sum([self._settle() for _ in range(len(self._in_flight))])

    def run(self, stop: Event) -> None:
        """Relay until `stop` is set, through outages of either side; then delete what Kafka confirms in time and end."""
        repeat(lambda: self._step(stop), stop, service="database of the relay", idle=IDLE_WAIT)
        self._finish()

    def _step(self, stop: Event) -> bool:
        self._gauge()
        had_work = bool(self._in_flight)
        if had_work and self._in_flight[0].is_late(time.monotonic()):
            # When its lease is over, the next claim takes the same events again, also those that Kafka has.
            self._settle(stop)
            return True
        took = len(self._in_flight) < BATCHES_IN_FLIGHT and self._take()
        if len(self._in_flight) == BATCHES_IN_FLIGHT or (self._in_flight and not took):
            self._settle(stop)
        return took or had_work

    def _take(self) -> bool:
        """Claim a batch and hand it to the producer; False when no event is pending."""
        deadline = time.monotonic() + self._window
        with housekeeping(self._database) as connection:
            events = outbox.claim(connection, self._batch_size, self._lease)
        if not events:
            return False
        batch = Batch(events, self._producer, deadline)
        self._in_flight.append(batch)
        stuck: set[str] = set()
        for event in events:
            if reason := self._refused_topics.reason(event.topic, time.monotonic()):
                batch.refused[event.position] = batch.reason = reason
                batch.leave_out()
            elif event.aggregate_id in stuck or not self._send(batch, event):
                stuck.add(event.aggregate_id)
                batch.leave_out()
        return True

    def _send(self, batch: Batch, event: PendingEvent) -> bool:
        try:
            return self._produce(batch, event)
        except Exception as error:
            if is_outage(error):
                raise
            set_aside("relay", "event", error, eventId=event.event_id, tenantId=event.tenant_id, aggregateId=event.aggregate_id)
            batch.refused[event.position] = str(error)
            return False

    def _produce(self, batch: Batch, event: PendingEvent) -> bool:
        report, value = partial(batch.report, event), wire.encode(event)
        while time.monotonic() < batch.deadline:
            try:
                batch.producer.produce(event.topic, value, wire.key_of(event), on_delivery=report, headers=wire.headers_of(event))
            except BufferError:
                self._poll(batch, 0.1)
            except KafkaException as error:
                batch.fail(event, error.args[0])
                _log.error("event_not_sent", eventId=event.event_id, tenantId=event.tenant_id, reason=batch.reason)
                return False
            except SystemError as error:
                batch.broken = True
                _log.warning("relay_producer_died", reason=str(error))
                return False
            else:
                return True
        return False

    def _poll(self, batch: Batch, seconds: float) -> None:
        """Take Kafka's answers. A producer that met a fatal error raises it here, and sends nothing any more."""
        try:
            batch.producer.poll(seconds)
        except PRODUCER_DIED as error:
            batch.broken = True
            _log.warning("relay_producer_died", reason=str(error))

    def _settle(self, stop: Event | None = None) -> int:
        """Wait for the oldest batch, delete its confirmed events, postpone the others; return how many events were published."""
        batch = self._in_flight[0]
        self._await(batch, stop)
        if (batch.broken or not batch.settled) and batch.producer is self._producer:
            self._replace_producer()
        self._refused_topics.note(batch.refused_topics, time.monotonic())
        done, stuck = batch.outcome()
        try:
            self._record(batch, done, stuck)
        except Exception:
            batch.deletion_failed = True
            raise
        self._in_flight.popleft()
        OUTBOX_PUBLISHED.inc(len(done))
        if stuck:
            event = stuck[0].event
            ids = {"aggregateId": event.aggregate_id, "eventId": event.event_id}
            _log.warning("events_not_delivered", aggregates=len(stuck), reason=batch.reason, **ids)
        return len(done)

    def _record(self, batch: Batch, done: list[int], stuck: list[Stuck]) -> None:
        with housekeeping(self._database) as connection:
            if stuck:
                outbox.postpone(connection, stuck)
                outbox.note_no_answer(connection, batch.unanswered)
            outbox.delete_published(connection, done)
            if batch.refused:
                outbox.note_refused(connection, batch.refused)

    def _await(self, batch: Batch, stop: Event | None) -> None:
        self._poll(batch, 0)  # what Kafka has confirmed while this process stood still counts
        deadline = batch.deadline
        while not batch.settled and time.monotonic() < deadline:
            self._poll(batch, 0.05)
            if stop is not None and stop.is_set():
                deadline = min(deadline, time.monotonic() + STOP_GRACE_SECONDS)
                stop = None

    def _replace_producer(self) -> None:
        """Give up at once everything that is on its way, so that no later event overtakes an earlier one, and begin anew."""
        self._abandon()
        self._producer = self._new_producer()

    def _finish(self) -> None:
        stopped = Event()
        stopped.set()
        try:
            while self._in_flight:
                self._settle(stopped)
        except Exception as error:
            if not is_waited_out(error):
                raise
            _log.warning("relay_ends_without_deleting", error=str(error))
        self._abandon()

    def _abandon(self) -> None:
        """Give up what is on its way, until every event of it is reported: a fatal error interrupts the library's calls once."""
        for _ in range(ABANDONS):
            try:
                self._producer.purge()
                self._producer.flush(PURGE_SECONDS)
            except PRODUCER_DIED as error:
                _log.warning("relay_producer_died", reason=str(error))
            else:
                return

    def _gauge(self) -> None:
        if time.monotonic() - self._gauged_at < GAUGE_INTERVAL_SECONDS:
            return
        self._gauged_at = time.monotonic()
        with housekeeping(self._database) as connection:
            waiting, oldest = outbox.backlog(connection)
        OUTBOX_UNPUBLISHED.set(waiting)
        OUTBOX_OLDEST_UNPUBLISHED.set(oldest.timestamp() if oldest else nan)
