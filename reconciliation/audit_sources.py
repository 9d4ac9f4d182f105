"""What the audit reads outside the database: the engine's history, and the records in Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from domain.store.facts import TOPICS
from domain.texts import json_from
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance, Incident, Trace
from workers.runtime.kafka import KafkaUnavailableError, new_consumer
from workers.runtime.kafka_access import KafkaAccess

KAFKA_BATCH = 500
KAFKA_SILENCE = timedelta(seconds=30)  # the longest time without a record, while more are to come


class EngineHistory(Protocol):
    """What the audit needs from the engine."""

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:
        """Every instance ever started under a business key of the tenant."""

    def trace(self, instance_id: str) -> Trace:
        """How far one instance came."""

    def incidents(self) -> Sequence[Incident]:
        """Every open incident, once, where it happened."""

    def completions(self) -> Iterable[tuple[str, str]]:
        """Every known completion of a user task: the process instance, and who completed the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One record in Kafka, and the event in it."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: UUID
    aggregate_version: int


class EventRecords(Protocol):
    """What the audit needs from Kafka."""

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:
        """Every record of the tenant; the records of one partition in their order."""

    def lost_before(self) -> Mapping[str, datetime]:
        """Topics that no longer have all their records -> the time from which on they have them all."""


class CamundaHistory:
    """The history of one engine. Every call raises EngineError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instances(self, tenant_id: UUID) -> list[EngineInstance]:
        return self._engine.past_instances(f"%:{tenant_id}:%")

    def trace(self, instance_id: str) -> Trace:
        return self._engine.trace(instance_id)

    def incidents(self) -> list[Incident]:
        return self._engine.incidents()

    def completions(self) -> Iterable[tuple[str, str]]:
        return self._engine.completions()


class KafkaTopics:
    """The product's Kafka topics, from the first record to the last one when the reading began. Raises KafkaUnavailableError."""

    def __init__(self, kafka: KafkaAccess, silence: timedelta = KAFKA_SILENCE) -> None:
        self._kafka = kafka
        self._silence = silence

    def read(self, tenant_id: UUID) -> list[EventRecord]:
        # A group of its own that commits nothing: no other consumer's offset moves.
        consumer = new_consumer(self._kafka, f"audit-{uuid4()}")
        try:
            return [record for message in self._messages(consumer) if (record := _record(message, tenant_id)) is not None]
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka did not return its records: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def lost_before(self) -> dict[str, datetime]:
        consumer = new_consumer(self._kafka, f"audit-{uuid4()}")
        try:
            found: dict[str, datetime] = {}
            for place, (low, high) in self._marks(consumer).items():
                if low > 0:
                    since = self._time_of(consumer, place, low) if low < high else datetime.now(UTC)
                    found[place[0]] = max(since, found.get(place[0], since))
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka did not tell its oldest records: {error.args[0].str()}") from error
        else:
            return found
        finally:
            consumer.close()

    def _time_of(self, consumer: Consumer, place: tuple[str, int], offset: int) -> datetime:
        consumer.assign([TopicPartition(*place, offset)])
        message = consumer.poll(self._silence.total_seconds())
        if message is None or message.error() is not None:
            raise KafkaUnavailableError(f"Kafka did not give the first record of {place}")
        return datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)

    def _messages(self, consumer: Consumer) -> Iterator[Message]:
        ends = self._ends(consumer)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
        give_up = time.monotonic() + self._silence.total_seconds()
        while ends:
            for message in consumer.consume(KAFKA_BATCH, timeout=0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                give_up = time.monotonic() + self._silence.total_seconds()
                yield message
            ends = {place: end for place, end in ends.items() if _position(consumer, place) < end}
            if time.monotonic() > give_up:
                raise KafkaUnavailableError(f"Kafka gave no record of {sorted(ends)} for {self._silence}. Is it overloaded?")

    def _ends(self, consumer: Consumer) -> dict[tuple[str, int], int]:
        """Partitions with records -> the offset after their last one."""
        return {place: high for place, (low, high) in self._marks(consumer).items() if low < high}

    def _marks(self, consumer: Consumer) -> dict[tuple[str, int], tuple[int, int]]:
        """Partitions -> the offset of their first record, and the one after their last."""
        seconds = self._silence.total_seconds()
        known = consumer.list_topics(timeout=seconds).topics
        places = [
            (topic, partition) for topic in sorted(set(TOPICS.values())) if topic in known for partition in known[topic].partitions
        ]
        return {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=seconds) for place in places}


def _position(consumer: Consumer, place: tuple[str, int]) -> int:
    [at] = consumer.position([TopicPartition(*place)])
    return int(at.offset)


def _record(message: Message, tenant_id: UUID) -> EventRecord | None:
    """Read a record; None when it is another tenant's, or not an event."""
    try:
        event = json_from(message.value() or b"null")
        if event["tenantId"] != str(tenant_id):
            return None
        return EventRecord(
            topic=str(message.topic()),
            partition=int(message.partition() or 0),
            offset=int(message.offset() or 0),
            key=(message.key() or b"").decode(),
            event_id=UUID(event["eventId"]),
            aggregate_version=int(event["aggregateVersion"]),
        )
    except (ValueError, KeyError, TypeError):
        return None
