"""Dead letters: records that a consumer cannot process, kept in a Kafka topic beside their own, with the reason.

The rule it keeps: a dead letter never fails by its size. What does not fit is cut or left out, and the letter says so; the whole record stays
where its source says, as long as its topic keeps records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from functools import partial

import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from workers.kafka.topics import dead_letters
from workers.runtime.kafka import KafkaUnavailableError, new_producer
from workers.runtime.kafka_access import KafkaAccess

TIMEOUT = timedelta(seconds=10)
# Brokers take records of a megabyte unless somebody has set less, and the producer no more than 1,000,000 bytes with headers and framing.
LARGEST_LETTER = 900_000
LARGEST_KEY = 1_000  # ours are ids
LARGEST_HEADERS = 10_000
LARGEST_REASON = 2_000  # characters
TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})

Headers = Sequence[tuple[str, bytes | None]]
REASON, SOURCE, CUT, WITHOUT = "deadLetterReason", "deadLetterSource", "deadLetterCut", "deadLetterWithout"
"""Headers of a letter: why nobody could process the record, where it was, how large its value was if it is cut, and what was left out."""
PREFIX = "deadLetter"
"""Of the headers that say something about a letter. Those of a record that begin so are not copied: they would speak for the letter."""
ANY_PARTITION = -1  # the one that the key gives

_log = structlog.get_logger()


class DeadLetters:
    """Writes dead letters."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._new_producer = partial(new_producer, kafka, TIMEOUT)
        self._producer: Producer = self._new_producer()

    def put(self, message: Message, reason: str) -> None:
        """Send a record to the dead letters of its topic. Raises KafkaUnavailableError unless Kafka confirms it."""
        topic, source = str(message.topic()), source_of(message)
        key, kept, value = _fitting(message)
        added = {REASON: reason[:LARGEST_REASON], SOURCE: source, **_left_out(message, key, kept)}
        for part in _ever_smaller(value):
            cut = {} if part == message.value() else {CUT: str(len(message.value() or b""))}
            refusal = self._send(dead_letters(topic), part, key, [*kept, *_encoded({**added, **cut})])
            if refusal is None:
                return
            if refusal.code() not in TOO_LARGE:
                raise KafkaUnavailableError(f"Kafka did not take the dead letter of {source}: {refusal.str()}")
        raise KafkaUnavailableError(f"Kafka takes no dead letter of {source}, not even without its value")

    def _send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers) -> KafkaError | None:
        """Send one record; returns why Kafka has not confirmed it."""
        answer = refusal_of(self._producer, topic, value, key, headers)
        if answer is not None:
            self._producer = self._new_producer()
        return answer


def refusal_of(
    producer: Producer, topic: str, value: bytes | None, key: bytes | None, headers: Headers, *, partition: int = ANY_PARTITION
) -> KafkaError | None:
    """Send one record; returns why Kafka has not confirmed it. After that the producer may send nothing any more."""
    answers: list[KafkaError | None] = []
    try:
        producer.produce(topic, value, key, partition, headers=list(headers), on_delivery=lambda error, _: answers.append(error))
        producer.flush(2 * TIMEOUT.total_seconds())
    except (KafkaException, SystemError) as error:
        # A producer that met a fatal error sends nothing any more; the library may report it as a SystemError of `flush`.
        answers.append(error.args[0] if isinstance(error, KafkaException) else KafkaError(KafkaError._FAIL))  # noqa: SLF001 - its public name
    return answers[0] if answers else KafkaError(KafkaError._TIMED_OUT)  # noqa: SLF001 - its public name


def source_of(message: Message) -> str:
    """Where a record is: topic, partition and offset."""
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def ids_of(message: Message) -> Mapping[str, str]:
    """The ids that a record has beside its value, for whoever looks for it."""
    named = {name: value for name, value in headers_of(message) if name in {"eventId", "eventType"} and value}
    ids = {"source": source_of(message), "key": repr(message.key() or b"")[:LARGEST_KEY]}
    return ids | {name: value.decode(errors="replace")[:LARGEST_KEY] for name, value in named.items()}


def _fitting(message: Message) -> tuple[bytes | None, Headers, bytes | None]:
    """Key, headers and value of a record; what is larger than its share is left out or cut."""
    key, headers, value = message.key(), headers_of(message), message.value()
    kept = [(name, content) for name, content in headers if not name.startswith(PREFIX)]
    has_room = sum(len(name) + len(content or b"") for name, content in kept) <= LARGEST_HEADERS
    return (
        key if key is None or len(key) <= LARGEST_KEY else None,
        kept if has_room else (),
        value if value is None else value[:LARGEST_LETTER],
    )


def _left_out(message: Message, key: bytes | None, kept: Headers) -> Mapping[str, str]:
    headers = headers_of(message)
    ours = [name for name, _ in headers if name.startswith(PREFIX)]
    left_out = {
        "key": key != message.key(),
        "headers": len(kept) + len(ours) < len(headers),
        f"headers that begin with {PREFIX}": bool(ours),
    }
    return {WITHOUT: ", ".join(name for name, is_missing in left_out.items() if is_missing)} if any(left_out.values()) else {}


def headers_of(message: Message) -> Headers:
    """The headers of a record; none if a name is no text."""
    try:
        return [(str(name), _bytes(value)) for name, value in list(message.headers() or [])]
    except Exception:  # noqa: BLE001 - a name that is no text; a record without headers is better than no letter
        return ()


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _ever_smaller(value: bytes | None) -> Iterator[bytes | None]:
    """The value, and less of it for a broker that takes less."""
    yield value
    for size in (100_000, 10_000, 0):
        if value and len(value) > size:
            yield value[:size] or None


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name, text.encode(errors="backslashreplace")) for name, text in headers.items()]
