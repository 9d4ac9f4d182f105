"""Where the audit looks outside the database: the engine's history and the records in Kafka. Both are only read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from domain.store.facts import TOPICS
from workers.runtime.engine import Engine
from workers.runtime.kafka import KafkaUnavailableError, new_consumer

PAGE = 1000  # rows per answer of the engine
KAFKA_BATCH = 500
KAFKA_PATIENCE = timedelta(seconds=30)  # without a single record, while there are some
_RUNNING = frozenset({"ACTIVE", "SUSPENDED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInstance:
    """A process instance as history knows it, running or ended."""

    id: str
    business_key: str
    definition_key: str
    state: str

    @property
    def is_running(self) -> bool:
        return self.state in _RUNNING

    @property
    def is_completed(self) -> bool:
        """Whether it reached an end event, as opposed to having been ended from outside."""
        return self.state == "COMPLETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """How far an instance came: the names of the end events it reached, the topics of the tasks it had."""

    ends: frozenset[str]
    topics: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something that stopped an instance until a person acts."""

    id: str
    process_instance_id: str
    activity_id: str
    message: str


class EngineHistory(Protocol):
    """What the audit asks of the engine."""

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:
        """Every instance ever started under a business key of the tenant."""

    def trace(self, instance_id: str) -> Trace:
        """How far one instance came."""

    def incidents(self) -> Sequence[Incident]:
        """Every open incident, each told once, at its root."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """An event where Kafka keeps it."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: UUID
    aggregate_version: int


class EventRecords(Protocol):
    """What the audit asks of Kafka."""

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:
        """Every record of the tenant, in each partition in order."""


class CamundaHistory:
    """The engine's history over REST. Every call raises EngineError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instances(self, tenant_id: UUID) -> list[EngineInstance]:
        rows = self._pages("/history/process-instance", processInstanceBusinessKeyLike=f"%:{tenant_id}:%", sortBy="instanceId")
        return [
            EngineInstance(
                id=row["id"], business_key=row["businessKey"], definition_key=row["processDefinitionKey"], state=row["state"]
            )
            for row in rows
        ]

    def trace(self, instance_id: str) -> Trace:
        activities = self._pages("/history/activity-instance", processInstanceId=instance_id, sortBy="activityId")
        tasks = self._pages("/history/external-task-log", processInstanceId=instance_id, sortBy="topicName")
        return Trace(
            ends=frozenset(str(row["activityName"]) for row in activities if row["activityType"].endswith("EndEvent")),
            topics=frozenset(str(row["topicName"]) for row in tasks),
        )

    def incidents(self) -> list[Incident]:
        rows = self._pages("/incident", sortBy="incidentId")
        # An incident is repeated in every process that called the one where it happened.
        return [
            Incident(
                id=row["id"],
                process_instance_id=row["processInstanceId"],
                activity_id=row["activityId"],
                message=row["incidentMessage"] or row["incidentType"],
            )
            for row in rows
            if row["id"] == row["rootCauseIncidentId"]
        ]

    def _pages(self, path: str, **query: str) -> Iterator[dict[str, Any]]:
        first = 0
        while True:
            rows = self._engine.get(path, sortOrder="asc", firstResult=first, maxResults=PAGE, **query)
            yield from rows
            if len(rows) < PAGE:
                return
            first += PAGE


class KafkaTopics:
    """The product's topics, read from their first record to what was there when the reading began. Raises KafkaUnavailableError."""

    def __init__(self, bootstrap: str, patience: timedelta = KAFKA_PATIENCE) -> None:
        self._bootstrap = bootstrap
        self._patience = patience

    def read(self, tenant_id: UUID) -> list[EventRecord]:
        # A group of its own that commits nothing: nobody else's place moves.
        consumer = new_consumer(self._bootstrap, f"audit-{uuid4()}")
        try:
            return [record for message in self._messages(consumer) if (record := _record(message, tenant_id)) is not None]
        except KafkaException as error:
            raise KafkaUnavailableError(f"Kafka did not give back its records: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _messages(self, consumer: Consumer) -> Iterator[Message]:
        ends = self._ends(consumer)
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for topic, partition in ends])
        give_up = time.monotonic() + self._patience.total_seconds()
        while ends:
            for message in consumer.consume(KAFKA_BATCH, timeout=0.2):
                if message.error() is not None:
                    raise KafkaException(message.error())
                give_up = time.monotonic() + self._patience.total_seconds()
                yield message
            ends = {place: end for place, end in ends.items() if _position(consumer, place) < end}
            if time.monotonic() > give_up:
                raise KafkaUnavailableError(f"Kafka gave no record of {sorted(ends)} for {self._patience}. Is it overloaded?")

    def _ends(self, consumer: Consumer) -> dict[tuple[str, int], int]:
        """Partitions that hold records -> offset after their last one."""
        seconds = self._patience.total_seconds()
        known = consumer.list_topics(timeout=seconds).topics
        places = [
            (topic, partition) for topic in sorted(set(TOPICS.values())) if topic in known for partition in known[topic].partitions
        ]
        marks = {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=seconds) for place in places}
        return {place: high for place, (low, high) in marks.items() if low < high}


def _position(consumer: Consumer, place: tuple[str, int]) -> int:
    [at] = consumer.position([TopicPartition(*place)])
    return int(at.offset)


def _record(message: Message, tenant_id: UUID) -> EventRecord | None:
    """Read a record, or None when it is another tenant's or no event at all."""
    try:
        event = json.loads(message.value() or b"null")
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
