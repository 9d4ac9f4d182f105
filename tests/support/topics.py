"""The product's Kafka topics for tests, empty at the start of every test, and their records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import pytest
from confluent_kafka import KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from tests.support.waiting import LONGEST_PAUSE, PATIENCE, eventually
from workers.kafka import wire
from workers.kafka.topics import all_topics
from workers.kafka.wire import Envelope
from workers.local.stack import LocalStack
from workers.runtime.kafka import KafkaUnavailableError, ensure_topics
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import records

_until_led = Retrying(
    retry=retry_if_exception_type(KafkaUnavailableError),
    wait=wait_fixed(LONGEST_PAUSE),
    stop=stop_after_delay(PATIENCE),
    reraise=True,
)


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of the product on a broker that may be stopped and started."""

    stack: LocalStack

    @property
    def kafka(self) -> KafkaAccess:
        return KafkaAccess(bootstrap=self.stack.kafka.bootstrap)

    def empty(self) -> None:
        """Delete every record, so that no test reads those of an earlier one."""
        client = AdminClient({"bootstrap.servers": self.kafka.bootstrap})
        known = client.list_topics(timeout=10).topics
        ends = [TopicPartition(topic, each, -1) for topic in all_topics() for each in known[topic].partitions]
        eventually(lambda: _deleted(client, ends), "every partition has a leader that deletes its records")

    def records(self, topic: str) -> list[Message]:
        """Read every record of a topic, those of one partition in their order. A partition may be without a leader for a moment."""
        return _until_led(lambda: list(records(self.kafka, [topic])))

    def events(self, *topics: str) -> list[Envelope]:
        """Read the events of topics, each partition in its order. What nobody can read is left out: other tests have sent it."""
        return [event for topic in topics for record in self.records(topic) for event in _readable(record)]


def _readable(record: Message) -> list[Envelope]:
    try:
        return [wire.decode(record.value())]
    except wire.UnreadableMessageError:
        return []


def _deleted(client: AdminClient, ends: list[TopicPartition]) -> bool:
    try:
        return all(future.result(30) for future in client.delete_records(ends).values())
    except KafkaException:
        return False


def versions_by_aggregate(events: Iterable[Envelope]) -> dict[UUID, list[int]]:
    """Group the versions of events by aggregate, in the order in which they stand in their partition."""
    versions: dict[UUID, list[int]] = defaultdict(list)
    for event in events:
        versions[event.aggregate_id].append(event.aggregate_version)
    return versions


@pytest.fixture(scope="session")
def made_topics(broker: LocalStack) -> Topics:
    topics = Topics(broker)
    ensure_topics(topics.kafka, all_topics(), partitions=3)
    return topics


@pytest.fixture
def topics(made_topics: Topics) -> Topics:
    """Give the product's topics, without a record."""
    made_topics.empty()
    return made_topics
