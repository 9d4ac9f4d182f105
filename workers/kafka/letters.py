"""Reads dead letters, and sends their records once more.

A topic is never changed, so a letter that was sent again gets a mark: a record beside it, in the same partition, that names it. A mark that
the sending begins stands there before the record is sent, and one that it is done after Kafka has confirmed it. So a replay that is
interrupted is seen, and nobody takes it for one that never happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Self

from confluent_kafka import KafkaError, Message

from domain.store.facts import TOPICS
from workers.kafka.batches import OF_THE_TOPIC, REFUSALS
from workers.kafka.dead_letters import (
    ANY_PARTITION,
    CUT,
    PREFIX,
    REASON,
    SOURCE,
    TIMEOUT,
    WITHOUT,
    Headers,
    headers_of,
    refusal_of,
)
from workers.kafka.topics import dead_letters
from workers.runtime.kafka import KafkaUnavailableError, new_producer
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import record_at, records, time_of

REPLAY_OF, REPLAY_IS = "deadLetterReplayOf", "deadLetterReplayIs"
"""Headers of a mark: the letter, and how far its replay came."""
DIGITS = 18  # of a number with 64 bits
NAMES = sorted(set(TOPICS.values()))
"""The topics that have dead letters."""
# The record was refused, so it is not there. After any other error it may be.
_REFUSED = REFUSALS | {KafkaError.CLUSTER_AUTHORIZATION_FAILED}


class NoSuchLetterError(Exception):
    """There is no such dead letter; the text says what to do."""


class Replay(StrEnum):
    """How far the replay of a letter came, as its marks say."""

    NONE = "NONE"
    BEGUN = "BEGUN"
    DONE = "DONE"


class Sent(StrEnum):
    """What became of a request to send a record again."""

    REPLAYED = "REPLAYED"
    ALREADY = "ALREADY"
    UNKNOWN = "UNKNOWN"
    REFUSED = "REFUSED"
    TOPIC_REFUSED = "TOPIC_REFUSED"


class Place(NamedTuple):
    """Where a record is."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Read `topic/partition/offset`; None when it is something else."""
        topic, _, rest = text.partition("/")
        partition, _, offset = rest.partition("/")
        if not topic or not (_is_number(partition) and _is_number(offset)):
            return None
        return cls(topic, int(partition), int(offset))

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """One dead letter. `source`: where its record was, None when the letter does not say. `headers` are those of the record."""

    place: Place
    written_at: datetime
    source: Place | None
    reason: str
    key: bytes | None
    headers: Headers
    value: bytes | None
    whole_size: int
    left_out: str
    replay: Replay = Replay.NONE
    replayed_at: datetime | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the letter has all of its record."""
        return not self.left_out and self.whole_size == len(self.value or b"")

    @property
    def ids(self) -> dict[str, str]:
        """The ids of the record that stand beside its value."""
        named = {name: (value or b"").decode(errors="replace") for name, value in self.headers if name in {"eventId", "eventType"}}
        return named | ({"key": self.key.decode(errors="replace")} if self.key else {})


class Mark(NamedTuple):
    """How far the replay of a letter came. `letter`: its place, as text."""

    letter: str
    replay: Replay


class Letters:
    """The dead letters of all topics. Every method raises KafkaUnavailableError."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka

    def all(self, topics: Sequence[str] = tuple(NAMES)) -> list[Letter]:
        """The letters of these topics, the oldest first, with how far their replay came."""
        found: dict[str, Letter] = {}
        for message in records(self._kafka, [dead_letters(topic) for topic in topics]):
            mark = mark_of(message)
            if mark is None:
                new = _letter(message)
                found[str(new.place)] = new
            elif letter := found.get(mark.letter):
                found[str(letter.place)] = replace(letter, replay=mark.replay, replayed_at=time_of(message))
        return sorted(found.values(), key=lambda letter: (letter.written_at, letter.place))

    def find(self, text: str) -> Letter:
        """The letter at `topic/partition/offset`. Raises NoSuchLetterError."""
        place = Place.read(text)
        if place is None:
            raise NoSuchLetterError(
                f"{text!r} is no place of a dead letter: give topic/partition/offset as `q2o dead-letters list` does"
            )
        topic = next((name for name in NAMES if dead_letters(name) == place.topic), None)
        letters = self.all([topic]) if topic else []
        letter = next((letter for letter in letters if letter.place == place), None)
        if letter is None:
            raise NoSuchLetterError(f"there is no dead letter at {text}: `q2o dead-letters list` names all that there are")
        return letter

    def replay(self, letter: Letter, *, again: bool = False) -> tuple[Sent, str]:
        """Send the record of a letter to its topic once more, and mark the letter; also returns what to tell about it."""
        if letter.replay is Replay.DONE and not again:
            return Sent.ALREADY, f"was sent again at {letter.replayed_at:%Y-%m-%d %H:%M:%S}; --again sends it once more"
        if letter.replay is Replay.BEGUN and not again:
            return Sent.UNKNOWN, "was begun to be sent again, and its outcome is not known; --again sends it once more"
        record = self._record(letter)
        if record is None or letter.source is None:
            return Sent.REFUSED, "is not whole, and its topic has the record no more"
        return self._send(letter, letter.source, *record)

    def _send(self, letter: Letter, source: Place, key: bytes | None, headers: Headers, value: bytes | None) -> tuple[Sent, str]:
        self._mark(letter, Replay.BEGUN)
        # A record without a key goes where it was; any other to the partition that its key gives.
        partition = ANY_PARTITION if key else source.partition
        refusal = refusal_of(new_producer(self._kafka, TIMEOUT), source.topic, value, key, headers, partition=partition)
        if refusal is None:
            self._mark(letter, Replay.DONE)
            return Sent.REPLAYED, f"was sent to {source.topic} again"
        if refusal.code() in _REFUSED:
            self._mark(letter, letter.replay)
            outcome = Sent.TOPIC_REFUSED if refusal.code() in OF_THE_TOPIC else Sent.REFUSED
            return outcome, f"was refused by Kafka: {refusal.str()}"
        return Sent.UNKNOWN, f"may have been sent: Kafka did not confirm it ({refusal.str()})"

    def _record(self, letter: Letter) -> tuple[bytes | None, Headers, bytes | None] | None:
        """Key, headers and value as they were sent, from the letter if it is whole, otherwise from where they were; None: gone."""
        if letter.is_whole:
            return letter.key, letter.headers, letter.value
        original = record_at(self._kafka, *letter.source) if letter.source else None
        if original is None or len(original.value() or b"") != letter.whole_size:
            return None
        return original.key(), headers_of(original), original.value()

    def _mark(self, letter: Letter, state: Replay) -> None:
        """Write beside a letter how far its replay came. Raises KafkaUnavailableError unless Kafka confirms the mark."""
        marks = [(REPLAY_OF, str(letter.place).encode()), (REPLAY_IS, state.encode())]
        refusal = refusal_of(
            new_producer(self._kafka, TIMEOUT), letter.place.topic, None, letter.key, marks, partition=letter.place.partition
        )
        if refusal is not None:
            raise KafkaUnavailableError(f"Kafka did not take the mark that {letter.place} is {state}: {refusal.str()}")


def mark_of(message: Message) -> Mark | None:
    """Read a mark; None when the record is a letter, which names its source, whatever headers its record had."""
    headers = dict(headers_of(message))
    if REPLAY_OF not in headers or SOURCE in headers:
        return None
    said = _text(headers.get(REPLAY_IS))
    return Mark(_text(headers[REPLAY_OF]), Replay(said) if said in set(Replay) else Replay.BEGUN)


def topic_named(text: str) -> str:
    """A topic by its name or by that of its dead letters. Raises NoSuchLetterError."""
    for name in NAMES:
        if text in {name, dead_letters(name)}:
            return name
    raise NoSuchLetterError(f"there is no topic {text!r}; there are {', '.join(NAMES)}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= DIGITS


def _letter(message: Message) -> Letter:
    headers = headers_of(message)
    told = {name: _text(value) for name, value in headers if name.startswith(PREFIX)}
    value, cut = message.value(), told.get(CUT, "")
    source = Place.read(told.get(SOURCE, ""))
    return Letter(
        place=Place(str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)),
        written_at=time_of(message),
        # Whoever may write to the topic of dead letters decides what they say: no replay leaves the topic that it belongs to.
        source=source if source and dead_letters(source.topic) == message.topic() else None,
        reason=told.get(REASON, ""),
        key=message.key(),
        headers=[(name, content) for name, content in headers if not name.startswith(PREFIX)],
        value=value,
        whole_size=int(cut) if _is_number(cut) else len(value or b""),
        left_out=told.get(WITHOUT, ""),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
