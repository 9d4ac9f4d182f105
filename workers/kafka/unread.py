"""How many records of its topic a projection has not read yet, and since when the oldest waits. Asking moves no offset and joins no group."""

from __future__ import annotations

from datetime import datetime, timedelta

from confluent_kafka import Consumer, TopicPartition

from workers.kafka.views import View
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import Place, asking, first_from, marks, time_of

PATIENCE = timedelta(seconds=5)  # a person waits for the reply


def unread(kafka: KafkaAccess, view: View) -> tuple[int, datetime | None]:
    """The number of unread records, and when Kafka got the oldest of them. Raises KafkaUnavailableError."""
    with asking(kafka, view.group, f"tell what {view.group} has read") as consumer:
        waiting = _waiting(consumer, view.topic)
        firsts = [first_from(consumer, place, at, PATIENCE) for place, (at, _) in waiting.items()]
    return sum(end - at for at, end in waiting.values()), min(map(time_of, firsts), default=None)


def _waiting(consumer: Consumer, topic: str) -> dict[Place, tuple[int, int]]:
    """For each partition with unread records, the offset of the first one and the one after the last."""
    ends = marks(consumer, [topic], PATIENCE)
    read = consumer.committed([TopicPartition(*place) for place in ends], timeout=PATIENCE.total_seconds())
    spans: dict[Place, tuple[int, int]] = {}
    for each in read:
        first, end = ends[each.topic, each.partition]
        # A group that has committed nothing has a negative offset, and what Kafka has deleted waits no more.
        spans[each.topic, each.partition] = max(each.offset, first), end
    return {place: (at, end) for place, (at, end) in spans.items() if at < end}
