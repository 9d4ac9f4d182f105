"""What the audit reads outside the database: the engine's history, and the records in Kafka."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID, uuid4

from confluent_kafka import Message

from domain.store.facts import TOPICS
from domain.texts import json_from
from domain.times import UnfitTimeError, in_utc
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance, Incident
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import SILENCE, Place, asking, first_from, marks, records, time_of


class EngineHistory(Protocol):
    """What the audit needs from the engine."""

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:
        """Every instance ever started under a business key of the tenant."""

    def work_of(self, instance_id: str) -> Collection[str]:
        """The topics of the external tasks that one instance completed."""

    def incidents(self) -> Sequence[Incident]:
        """Every open incident, once, where it happened."""

    def completions(self) -> Iterable[tuple[str, str]]:
        """Every known completion of a user task: the process instance, and who completed the task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """One record in Kafka, and the event in it. `event_time`: when it was committed."""

    topic: str
    partition: int
    offset: int
    key: str
    event_id: UUID
    aggregate_version: int
    event_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The records that Kafka still has.

    `partitions`: topic -> its number of partitions. `first`: partition that has lost records -> the time of the first one left. `emptied`:
    the partitions that have lost all their records.
    """

    partitions: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[Place, datetime] = field(default_factory=dict)
    emptied: frozenset[Place] = frozenset()

    def since(self, place: Place) -> datetime:
        """The time from which on a partition has all its records."""
        return self.first.get(place, datetime.min.replace(tzinfo=UTC))


class EventRecords(Protocol):
    """What the audit needs from Kafka."""

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:
        """Every record of the tenant; the records of one partition in their order."""

    def kept(self) -> Kept:
        """What the topics still have."""

    def replayed(self) -> Collection[str]:
        """The ids of the events that a person has had sent again from the dead letters, or may have."""


class AbsentError(Exception):
    """There is no such side here; the text says why."""


class Absent:
    """Stands for the engine and Kafka where they are not set up. `reason`: why. Every call raises AbsentError."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:  # noqa: ARG002 - the protocol's
        raise AbsentError(self._reason)

    def work_of(self, instance_id: str) -> Collection[str]:  # noqa: ARG002 - the protocol's
        raise AbsentError(self._reason)

    def incidents(self) -> Sequence[Incident]:
        raise AbsentError(self._reason)

    def completions(self) -> Iterable[tuple[str, str]]:
        raise AbsentError(self._reason)

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:  # noqa: ARG002 - the protocol's
        raise AbsentError(self._reason)

    def kept(self) -> Kept:
        raise AbsentError(self._reason)

    def replayed(self) -> Collection[str]:
        raise AbsentError(self._reason)

    def entries(self) -> Sequence[Mapping[str, Any]]:
        raise AbsentError(self._reason)


class ReadBefore:
    """An engine's history whose instances were read at an earlier moment than the rest of it."""

    def __init__(self, history: EngineHistory, instances: Callable[[], Sequence[EngineInstance]]) -> None:
        self._history = history
        self._instances = instances
        self.work_of = history.work_of
        self.incidents = history.incidents
        self.completions = history.completions

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:  # noqa: ARG002 - they were read for this tenant
        return self._instances()


class CamundaHistory:
    """The history of one engine. Every call raises EngineError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def instances(self, tenant_id: UUID) -> list[EngineInstance]:
        return self._engine.past_instances(f"%:{tenant_id}:%")

    def work_of(self, instance_id: str) -> Collection[str]:
        return self._engine.work_of(instance_id)

    def incidents(self) -> list[Incident]:
        return self._engine.incidents()

    def completions(self) -> Iterable[tuple[str, str]]:
        return self._engine.completions()


class KafkaTopics:
    """The product's Kafka topics, from the first record to the last one when the reading began. Raises KafkaUnavailableError.

    `replayed`: gives what `EventRecords.replayed` returns.
    """

    def __init__(
        self, kafka: KafkaAccess, silence: timedelta = SILENCE, *, replayed: Callable[[], Collection[str]] = tuple
    ) -> None:
        self._kafka = kafka
        self._silence = silence
        self.replayed = replayed

    def read(self, tenant_id: UUID) -> list[EventRecord]:
        found = records(self._kafka, set(TOPICS.values()), self._silence)
        return [record for message in found if (record := _record(message, tenant_id)) is not None]

    def kept(self) -> Kept:
        with asking(self._kafka, f"audit-{uuid4()}", "tell its oldest records") as consumer:
            found = marks(consumer, set(TOPICS.values()), self._silence)
            cut = {place: low for place, (low, high) in found.items() if 0 < low < high}
            return Kept(
                partitions=Counter(topic for topic, _ in found),
                first={place: time_of(first_from(consumer, place, low, self._silence)) for place, low in cut.items()},
                emptied=frozenset(place for place, (low, high) in found.items() if 0 < low == high),
            )


def _time(text: str | None) -> datetime | None:
    """By the clock of the database; None when the event has no such time."""
    try:
        return in_utc(datetime.fromisoformat(text)) if text else None
    except UnfitTimeError:
        return None


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
            event_time=_time(event.get("eventTime")),
        )
    except (ValueError, KeyError, TypeError):
        return None
