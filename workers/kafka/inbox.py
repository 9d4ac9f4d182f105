"""Brings events from Kafka into the product's own views: each event once, however often Kafka delivers it.

The rules it keeps: a message's offset is committed after the database has its change, so nothing is lost; the inbox row is written in
the same transaction as the change, so nothing counts twice; a message that cannot be processed goes to the dead letters and delays no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from sqlalchemy import Engine as Database

from domain.projections.merging import Consumed, Seen, consume
from domain.store import Cause, Outcome
from workers.kafka import wire
from workers.kafka.dead_letters import DeadLetters, ids_of
from workers.kafka.views import VIEWS, View
from workers.kafka.waiting_letters import WaitingLetters
from workers.kafka.wire import Envelope, UnreadableMessageError
from workers.runtime.commands import unit_of_work
from workers.runtime.kafka import KafkaUnavailableError, new_consumer
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.metrics import (
    INBOX_DEAD_LETTERS,
    INBOX_DUPLICATES_SKIPPED,
    PROJECTION_LAG,
    PROJECTION_STALE_EVENTS_IGNORED,
)
from workers.runtime.outages import is_about_every_item, is_waited_out
from workers.runtime.process import Loop
from workers.runtime.retries import repeat
from workers.runtime.set_aside import set_aside

# Offsets are committed once per batch. A consumer that dies repeats at most this many messages, and recognises each by its id.
BATCH_SIZE = 200
POLL_SECONDS = 0.2
OUTCOMES = {Consumed.DUPLICATE: Outcome.REPLAYED, Consumed.OUTDATED: Outcome.SKIPPED}

_log = structlog.get_logger()


class Inbox:
    """One member of a view's consumer group; as many may run as its topic has partitions. `group`: by default that of the view."""

    def __init__(
        self, database: Database, kafka: KafkaAccess, view: View, *, group: str | None = None, batch_size: int = BATCH_SIZE
    ) -> None:
        self._database = database
        self._view = view
        self._consumer: Consumer = new_consumer(kafka, group or view.group)
        self._consumer.subscribe([view.topic])
        self._dead_letters = DeadLetters(kafka)
        self._batch_size = batch_size

    def run_once(self) -> int:
        """Process the next messages, waiting briefly for the first one; return how many were processed.

        Raises KafkaUnavailableError and the database's errors; the messages that were not processed come again.
        """
        try:
            return self._process_batch()
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka did not serve the inbox: {error.args[0]}") from error

    def _process_batch(self) -> int:
        messages = [message for message in self._consumer.consume(self._batch_size, POLL_SECONDS) if _is_record(message)]
        done = 0
        try:
            for message in messages:
                self._process(message)
                done += 1
        finally:
            self._conclude(messages[:done], messages[done:])
        return done

    def run(self, stop: Event) -> None:
        """Consume until `stop` is set, through outages of either side; then leave the group in good order."""
        try:
            # No pause when idle: the consumer itself waits for a first message.
            repeat(self.run_once, stop, service="database or Kafka of the inbox", idle=timedelta(0))
        finally:
            self.close()

    def close(self) -> None:
        """Leave the consumer group, so that the partitions go to another member at once."""
        self._consumer.close()

    def _process(self, message: Message) -> None:
        try:
            envelope = wire.decode(message.value())
            project(self._database, self._view, envelope)
        except Exception as error:
            if is_waited_out(error) or is_about_every_item(error):
                raise
            self._put_aside(message, error)

    def _put_aside(self, message: Message, error: Exception) -> None:
        """Send a message to the dead letters. Raises KafkaUnavailableError unless Kafka confirms it."""
        reason = (
            error
            if isinstance(error, UnreadableMessageError)
            else getattr(error, "orig", None) or f"{type(error).__name__}: {error}"
        )
        self._dead_letters.put(message, str(reason))
        INBOX_DEAD_LETTERS.labels(self._view.consumer, self._view.topic).inc()
        set_aside("inbox", "message", error, **ids_of(message))

    def _conclude(self, processed: list[Message], left: list[Message]) -> None:
        """Go back to the first unprocessed message of each partition, and commit the others."""
        for place in self._places(reversed(left), 0):
            try:
                self._consumer.seek(place)
            except KafkaException as error:
                # The partition went to another member, which begins at the offset that we committed.
                _log.info("inbox_lost_partition", partition=place.partition, reason=str(error))
        if places := self._places(processed, 1):
            self._consumer.commit(offsets=places, asynchronous=False)

    def _places(self, messages: Iterable[Message], beyond: int) -> list[TopicPartition]:
        """The last of the messages in each partition, or `beyond` it."""
        offsets = {message.partition(): message.offset() for message in messages}
        topic = self._view.topic
        return [TopicPartition(topic, int(partition or 0), int(offset or 0) + beyond) for partition, offset in offsets.items()]


def project(database: Database, view: View, envelope: Envelope) -> Consumed:
    """Apply an event to a view, once; returns what came of it. Raises UnreadableMessageError, and the database's errors."""
    change = view.change_by(envelope)
    cause = Cause(
        tenant_id=envelope.tenant_id,
        actor="inbox",
        command=f"project-{view.consumer}",
        event_id=envelope.event_id,
        business_key=envelope.business_key,
    )
    about = {"aggregate_type": envelope.aggregate_type, "aggregate_id": envelope.aggregate_id}
    seen = Seen(
        consumer_name=view.consumer,
        event_id=envelope.event_id,
        event_type=envelope.event_type,
        aggregate_id=envelope.aggregate_id,
    )
    with unit_of_work(database, cause) as uow:
        consumed = consume(uow, seen, change)
        uow.summary.note(OUTCOMES.get(consumed), expected_version=envelope.aggregate_version, **about)
    _count(view, envelope, consumed)
    return consumed


def _count(view: View, envelope: Envelope, consumed: Consumed) -> None:
    if consumed is Consumed.DUPLICATE:
        INBOX_DUPLICATES_SKIPPED.labels(view.consumer, envelope.event_type).inc()
    elif consumed is Consumed.OUTDATED:
        PROJECTION_STALE_EVENTS_IGNORED.labels(view.projection, envelope.event_type).inc()
    elif consumed is Consumed.APPLIED:
        PROJECTION_LAG.labels(view.projection).set((datetime.now(UTC) - envelope.event_time).total_seconds())


class Inboxes:
    """The inboxes of all views in one process, each in a thread and with a consumer group of its own, so that none waits for another.

    One thread more shows the dead letters that wait.
    """

    def __init__(self, loops: Mapping[str, Loop]) -> None:
        self._loops = loops
        self._errors: list[BaseException] = []

    @classmethod
    def of(cls, database: Database, kafka: KafkaAccess) -> Inboxes:
        """One inbox for each view."""
        inboxes = {view.consumer: Inbox(database, kafka, view) for view in VIEWS}
        return cls({**inboxes, "dead-letters": WaitingLetters(kafka)})

    def run(self, stop: Event) -> None:
        """Consume until `stop` is set. Raises what one of the loops died of, once the others have ended in good order."""
        threads = [Thread(target=self._run, args=(loop, stop), name=name) for name, loop in self._loops.items()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _run(self, loop: Loop, stop: Event) -> None:
        try:
            loop.run(stop)
        except BaseException as error:  # noqa: BLE001 - the thread that waits raises it
            self._errors.append(error)
        finally:
            stop.set()


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is not None:
        # Kafka is away, or the Kafka topic does not exist yet; the client goes on trying.
        _log.warning("inbox_kafka_error", error=error.name(), reason=error.str())
    return error is None
