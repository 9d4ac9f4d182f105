"""The product's Kafka topics for tests, empty at the start of every test, and their records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.waiting import eventually
from workers.kafka import wire
from workers.kafka.topics import all_topics
from workers.kafka.wire import Envelope
from workers.local.stack import LocalStack
from workers.runtime.kafka import ensure_topics, new_consumer
from workers.runtime.kafka_access import KafkaAccess


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
        """Read every record of a topic, each partition in its order."""
        consumer = new_consumer(self.kafka, f"test-{uuid4()}")
        try:
            return [
                record
                for partition in consumer.list_topics(topic).topics[topic].partitions
                for record in _all(consumer, topic, partition)
            ]
        finally:
            consumer.close()

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


def _all(consumer: Consumer, topic: str, partition: int) -> list[Message]:
    low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    consumer.assign([TopicPartition(topic, partition, low)])
    records: list[Message] = []

    def complete() -> bool:
        records.extend(consumer.consume(1_000, 0.1))
        return len(records) >= high - low

    eventually(complete, f"{high - low} records read")
    return records


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
