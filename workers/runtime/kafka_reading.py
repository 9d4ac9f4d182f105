"""Reads topics from their first record to the last one when the reading began, as nobody's consumer: no offset of a group moves."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import MappingProxyType
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from domain.times import nearest
from workers.runtime.kafka import KafkaUnavailableError, new_consumer, require_trust
from workers.runtime.kafka_access import KafkaAccess

BATCH = 500
SILENCE = timedelta(seconds=30)  # the longest time without a record, while more are to come

Place = tuple[str, int]
"""A topic and the number of a partition."""


def records(
    kafka: KafkaAccess, topics: Collection[str], silence: timedelta = SILENCE, since: Mapping[Place, int] = MappingProxyType({})
) -> Iterator[Message]:
    """Every record of these topics; those of one partition in their order. Raises KafkaUnavailableError.

    `since`: the offset of the first record to read of a partition. Default: its first record.
    """
    with asking(kafka, f"read-{uuid4()}", "return its records") as consumer:
        yield from _all(consumer, topics, silence, since)


def record_at(kafka: KafkaAccess, topic: str, partition: int, offset: int, silence: timedelta = SILENCE) -> Message | None:
    """One record; None when the topic has it no more, or never had it. Raises KafkaUnavailableError."""
    with asking(kafka, f"read-{uuid4()}", "return its records") as consumer:
        low, high = marks(consumer, [topic], silence).get((topic, partition), (0, 0))
        return first_from(consumer, (topic, partition), offset, silence) if low <= offset < high else None


def first_offsets(kafka: KafkaAccess, topics: Collection[str], silence: timedelta = SILENCE) -> Mapping[Place, int]:
    """For each partition, the offset of the first record that Kafka still has. Raises KafkaUnavailableError."""
    with asking(kafka, f"read-{uuid4()}", "tell its oldest records") as consumer:
        return {place: low for place, (low, _) in marks(consumer, topics, silence).items()}


@contextmanager
def asking(kafka: KafkaAccess, group: str, what: str) -> Iterator[Consumer]:
    """Give a consumer for one question. `what` ends the sentence "Kafka did not …" of the exception, so that nothing else needs to be logged.

    Raises KafkaUnavailableError, or KafkaUntrustedError when a person has to correct a certificate, a password or a setting.
    """
    refusals: list[KafkaError] = []
    consumer = new_consumer(kafka, group, refusals.append)
    try:
        yield consumer
    except KafkaException as error:
        consumer.poll(0)  # it reports what it knows
        require_trust(kafka, refusals)
        raise KafkaUnavailableError(f"Kafka at {kafka.bootstrap} did not {what}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def time_of(message: Message) -> datetime:
    """When Kafka got a record, or when its sender says that it made it.

    A sender may say any number of 64 bits. A time that no calendar has becomes the nearest one, so that records keep their order; the
    epoch would make a record of the far future the oldest one.
    """
    return nearest(message.timestamp()[1])


def first_from(consumer: Consumer, place: Place, offset: int, silence: timedelta) -> Message:
    """The record at an offset that the partition has. Raises KafkaUnavailableError, KafkaException."""
    consumer.assign([TopicPartition(*place, offset)])
    message = consumer.poll(silence.total_seconds())
    if message is None or message.error() is not None:
        raise KafkaUnavailableError(f"Kafka did not give the record {offset} of {place}")
    return message


def marks(consumer: Consumer, topics: Collection[str], silence: timedelta) -> Mapping[Place, tuple[int, int]]:
    """For each partition, the offset of its first record and the one after its last record. Raises KafkaException."""
    seconds = silence.total_seconds()
    known = consumer.list_topics(timeout=seconds).topics
    places = [(topic, each) for topic in sorted(topics) if topic in known for each in known[topic].partitions]
    return {place: consumer.get_watermark_offsets(TopicPartition(*place), timeout=seconds) for place in places}


def _all(consumer: Consumer, topics: Collection[str], silence: timedelta, since: Mapping[Place, int]) -> Iterator[Message]:
    found = marks(consumer, topics, silence)
    starts = {place: max(low, since.get(place, low)) for place, (low, _) in found.items()}
    ends = {place: high for place, (_, high) in found.items() if starts[place] < high}
    last = dict(ends)
    consumer.assign([TopicPartition(*place, starts[place]) for place in ends])
    give_up = time.monotonic() + silence.total_seconds()
    while ends:
        for message in consumer.consume(BATCH, timeout=0.2):
            if message.error() is not None:
                raise KafkaException(message.error())
            give_up = time.monotonic() + silence.total_seconds()
            if int(message.offset() or 0) < last[str(message.topic()), int(message.partition() or 0)]:
                yield message
        ends = {place: end for place, end in ends.items() if _position(consumer, place) < end}
        if time.monotonic() > give_up:
            raise KafkaUnavailableError(f"Kafka gave no record of {sorted(ends)} for {silence}. Is it overloaded?")


def _position(consumer: Consumer, place: Place) -> int:
    [at] = consumer.position([TopicPartition(*place)])
    return int(at.offset)
