"""What a relay takes for Kafka's refusal of one event, and what says nothing about the event."""

from __future__ import annotations

from unittest.mock import create_autospec

import pytest
from confluent_kafka import KafkaError, Message, Producer

from tests.unit.test_wire import pending
from workers.kafka.batches import Batch

MESSAGE, PRODUCER = create_autospec(Message), create_autospec(Producer)
ABOUT_AN_EVENT = [
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.TOPIC_EXCEPTION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
]
ABOUT_SOMETHING_ELSE = [
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.NOT_ENOUGH_REPLICAS,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError._GAPLESS_GUARANTEE,
    KafkaError._INVALID_DIFFERENT_RECORD,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._AUTHENTICATION,
]


def name_of(code: int) -> str:
    return str(KafkaError(code).name())


def refusals_after(code: int) -> dict[int, str]:
    batch = Batch([], PRODUCER, 0.0)
    batch.report(pending(), KafkaError(code), MESSAGE)
    return batch.refused


@pytest.mark.parametrize("code", ABOUT_AN_EVENT, ids=name_of)
def test_an_event_is_refused_for_its_size_its_content_or_its_topic(code: int) -> None:
    assert refusals_after(code) == {1: KafkaError(code).str()}


@pytest.mark.parametrize("code", ABOUT_SOMETHING_ELSE, ids=name_of)
def test_no_event_is_refused_for_what_a_broker_or_its_producer_lacks(code: int) -> None:
    assert refusals_after(code) == {}
