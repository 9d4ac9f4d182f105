"""Clients of Kafka, with the settings that the product's guarantees depend on.

A producer is idempotent and waits for every in-sync copy; a consumer commits nothing by itself and reads only committed records.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.outages import OutageError, UntrustedError
from workers.runtime.retries import REMINDER

# Long enough that the events of one burst share a request, and well below the 50 ms in which an event reaches Kafka.
LINGER_MS = 2
# A topic that the brokers do not know for so long does not exist. It is well below the window of the relay, which hears only before its end
# that a topic is missing; a new topic is known to every broker within a second or two.
TOPIC_IS_KNOWN_WITHIN = timedelta(seconds=5)
# The largest number of members of a consumer group that have work; a topic's order is per partition.
PARTITIONS = 6
ADMIN_TIMEOUT = timedelta(seconds=30)
POLL_SECONDS = 0.1
# What a person corrects, by the words that the library gives as its reason.
_ADVICE = {
    "certificate verify failed": "set Q2O_KAFKA_CA_FILE to the authority of the brokers, or have their certificates name this address",
    "SSL alert": "set Q2O_KAFKA_CERTIFICATE_FILE and Q2O_KAFKA_KEY_FILE to a certificate that the brokers accept",
    "PLAINTEXT broker listener": "set Q2O_KAFKA_SECURITY_PROTOCOL to that of the listener",
}

_SILENT = logging.getLogger("librdkafka")
_SILENT.disabled = True

_log = structlog.get_logger()


class KafkaUnavailableError(OutageError):
    """Kafka did not carry out a request, which may be sent again."""


class KafkaUntrustedError(KafkaUnavailableError, UntrustedError):
    """Kafka and this process do not accept each other's certificate or password."""


def new_producer(kafka: KafkaAccess, delivery_timeout: timedelta | None) -> Producer:
    """Make a producer whose records arrive once and in order per partition.

    With `delivery_timeout` None the producer tries to send a record until the caller purges it. Only so can a whole batch be given up at
    once, which keeps a later record from arriving when an earlier one does not.
    """
    return Producer(
        _common(kafka)
        | {
            "enable.idempotence": True,
            "enable.gapless.guarantee": True,
            # A second request on its way would lose events or let them overtake: a broker that refuses the first one may take the second
            # from a producer that it does not know yet, and the library then takes the first for delivered (decision 0044).
            "max.in.flight.requests.per.connection": 1,
            "acks": "all",
            "linger.ms": LINGER_MS,
            "compression.type": "lz4",
            "topic.metadata.propagation.max.ms": int(TOPIC_IS_KNOWN_WITHIN.total_seconds() * 1000),
            "message.timeout.ms": 0 if delivery_timeout is None else int(delivery_timeout.total_seconds() * 1000),
        }
    )


def new_consumer(kafka: KafkaAccess, group: str, on_error: Callable[[KafkaError], object] | None = None) -> Consumer:
    """Make a consumer that begins with the oldest record; its owner commits the offsets of processed records.

    `on_error` gets what the client reports; by default it is logged.
    """
    return Consumer(
        _common(kafka, on_error)
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


def ensure_topics(
    kafka: KafkaAccess,
    topics: Iterable[str],
    *,
    partitions: int = PARTITIONS,
    replication: int = -1,
    timeout: timedelta = ADMIN_TIMEOUT,
) -> None:
    """Create the topics that do not exist; `replication` -1 is the broker's default.

    Raises KafkaUntrustedError as soon as a broker and this process do not accept each other, and KafkaUnavailableError.
    """
    refusals: list[KafkaError] = []
    client = AdminClient(_common(kafka, refusals.append))
    wanted = [NewTopic(topic, num_partitions=partitions, replication_factor=replication) for topic in topics]
    creations = client.create_topics(wanted, request_timeout=timeout.total_seconds())
    while not all(creation.done() for creation in creations.values()):
        client.poll(POLL_SECONDS)
        require_trust(kafka, refusals)
    for topic, creation in creations.items():
        try:
            creation.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise KafkaUnavailableError(
                    f"Kafka at {kafka.bootstrap} did not create topic {topic} ({error.args[0].str()}): "
                    f"is it started, and is Q2O_KAFKA_SECURITY_PROTOCOL={kafka.protocol} that of its listener?"
                ) from error


def is_reachable(kafka: KafkaAccess, timeout: timedelta) -> bool:
    """Whether a broker responds. Raises KafkaUntrustedError when it does not accept this process, or this process not the broker."""
    refusals: list[KafkaError] = []
    client = AdminClient(_common(kafka, refusals.append))
    try:
        return bool(client.list_topics(timeout=timeout.total_seconds()).brokers)
    except KafkaException:
        client.poll(0)
        require_trust(kafka, refusals)
        return False


def require_trust(kafka: KafkaAccess, errors: Iterable[KafkaError]) -> None:
    """Raises KafkaUntrustedError, which says what to correct, when a client has reported that a person has to act."""
    for error in errors:
        if advice := _advice(error):
            raise KafkaUntrustedError(
                f"Kafka at {kafka.bootstrap} and this process do not accept each other ({_reason(error)}): {advice}"
            )


def _advice(error: KafkaError) -> str | None:
    """Say what a person corrects; None when the error may pass by itself."""
    if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - its public name
        return "correct Q2O_KAFKA_USER, Q2O_KAFKA_PASSWORD or Q2O_KAFKA_SASL_MECHANISM"
    return next((advice for words, advice in _ADVICE.items() if words in error.str()), None)


def _reason(error: KafkaError) -> str:
    """The library's reason, without the time that it took."""
    return error.str().split(" (after ")[0]


class ClientErrors:
    """Logs what a client reports. A broker that is not accepted, or does not accept us, is an error; it and an outage are repeated every minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reminded: dict[str, float] = {}

    def __call__(self, error: KafkaError) -> None:
        if advice := _advice(error):
            if self._is_due("untrusted"):
                _log.error("service_untrusted", service="Kafka", reason=f"{_reason(error)}: {advice}", kind=error.name())
            return
        # Every failed connection reports an error of its own; only the loss of all brokers is worth a warning.
        is_away = error.code() == KafkaError._ALL_BROKERS_DOWN and self._is_due("away")  # noqa: SLF001 - its public name
        log = _log.warning if error.fatal() or is_away else _log.debug
        log("kafka_client_error", error=error.name(), reason=error.str(), fatal=error.fatal())

    def _is_due(self, what: str) -> bool:
        now, last = self._clock(), self._reminded.get(what)
        if last is not None and now - last < REMINDER.total_seconds():
            return False
        self._reminded[what] = now
        return True


def _common(kafka: KafkaAccess, on_error: Callable[[KafkaError], object] | None = None) -> dict[str, Any]:
    # By default the library writes to standard error, a fatal error even with `log_level` 0; `on_error` gets every error instead.
    return {
        **kafka.client_settings(),
        "log_level": 0,
        "logger": _SILENT,
        "error_cb": on_error or ClientErrors(),
        "reconnect.backoff.max.ms": 1_000,
    }
