"""Clients of Kafka, with the settings that the product's guarantees depend on.

A producer is idempotent and waits for every in-sync copy; a consumer commits nothing by itself and reads only committed records.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from workers.runtime.outages import OutageError

# Long enough that the events of one burst share a request, and well below the 50 ms in which an event reaches Kafka.
LINGER_MS = 2
# The largest number of members of a consumer group that have work; a topic's order is per partition.
PARTITIONS = 6
ADMIN_TIMEOUT_SECONDS = 30.0

_log = structlog.get_logger()


class KafkaUnavailableError(OutageError):
    """Kafka did not carry out a request, which may be sent again."""


def new_producer(bootstrap: str, delivery_timeout: timedelta | None) -> Producer:
    """Make a producer whose records arrive once and in order per partition.

    With `delivery_timeout` None the producer tries to send a record until the caller purges it. Only so can a whole batch be given up at
    once, which keeps a later record from arriving when an earlier one does not.
    """
    return Producer(
        _common(bootstrap)
        | {
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            "acks": "all",
            "linger.ms": LINGER_MS,
            "compression.type": "lz4",
            "message.timeout.ms": 0 if delivery_timeout is None else int(delivery_timeout.total_seconds() * 1000),
        }
    )


def new_consumer(bootstrap: str, group: str) -> Consumer:
    """Make a consumer that begins with the oldest record; its owner commits the offsets of processed records."""
    return Consumer(
        _common(bootstrap)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # How soon the partitions of a consumer that was killed go to another one.
            "session.timeout.ms": 10_000,
            "fetch.wait.max.ms": 100,
        }
    )


def ensure_topics(bootstrap: str, topics: Iterable[str], *, partitions: int = PARTITIONS, replication: int = -1) -> None:
    """Create the topics that do not exist; `replication` -1 is the broker's default. Raises KafkaUnavailableError."""
    client = AdminClient(_common(bootstrap))
    wanted = [NewTopic(topic, num_partitions=partitions, replication_factor=replication) for topic in topics]
    for topic, created in client.create_topics(wanted, request_timeout=ADMIN_TIMEOUT_SECONDS).items():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaUnavailableError(f"Kafka did not create topic {topic}: {error.args[0].str()}") from error


def _common(bootstrap: str) -> dict[str, Any]:
    # By default the library writes to standard error; `_log_client_error` takes its messages instead.
    return {"bootstrap.servers": bootstrap, "log_level": 0, "error_cb": _log_client_error, "reconnect.backoff.max.ms": 1_000}


def _log_client_error(error: KafkaError) -> None:
    # Every failed connection reports an error of its own; only the loss of all brokers is worth a warning.
    log = _log.warning if error.fatal() or error.code() == KafkaError._ALL_BROKERS_DOWN else _log.debug  # noqa: SLF001 - its public name
    log("kafka_client_error", error=error.name(), reason=error.str(), fatal=error.fatal())
