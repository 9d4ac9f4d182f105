"""Shows how many dead letters wait for a person, and since when the oldest does.

It stands in the inbox, which writes most of them and reads Kafka anyway. When several inboxes run, each shows the same: take the maximum.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from math import nan
from threading import Event

from confluent_kafka import Message

from workers.kafka.dead_letters import source_of
from workers.kafka.letters import NAMES, Replay, mark_of
from workers.kafka.letters import Place as Letter
from workers.kafka.topics import dead_letters
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import Place, first_offsets, records, time_of
from workers.runtime.metrics import DEAD_LETTERS_OLDEST, DEAD_LETTERS_WAITING
from workers.runtime.retries import repeat
from workers.runtime.set_aside import isolated

INTERVAL = timedelta(seconds=30)


class WaitingLetters:
    """Reads each dead letter and each mark once, and remembers only where the waiting letters are and since when."""

    def __init__(self, kafka: KafkaAccess) -> None:
        self._kafka = kafka
        self._next: dict[Place, int] = {}
        self._since: dict[Place, dict[int, float]] = defaultdict(dict)

    def run(self, stop: Event) -> None:
        """Look at every interval until `stop` is set, through outages of Kafka."""
        repeat(self.look, stop, service="Kafka of the dead letters", idle=INTERVAL)

    def look(self) -> int:
        """Read what is new, and show what waits. Returns 0, because nothing is left to do. Raises KafkaUnavailableError."""
        topics = [dead_letters(name) for name in NAMES]
        for message in records(self._kafka, topics, since=self._next):
            # A letter that fails is not read again, so it is logged once.
            self._next[_place_of(message)] = _offset_of(message) + 1
            with isolated("inbox", "letter", letter=source_of(message)):
                self._take(message)
        for place, first in first_offsets(self._kafka, topics).items():
            self._since[place] = {offset: at for offset, at in self._since[place].items() if offset >= first}
        for name in NAMES:
            waiting = [at for place, found in self._since.items() if place[0] == dead_letters(name) for at in found.values()]
            DEAD_LETTERS_WAITING.labels(name).set(len(waiting))
            DEAD_LETTERS_OLDEST.labels(name).set(min(waiting, default=nan))
        return 0

    def _take(self, message: Message) -> None:
        place, at, mark = _place_of(message), time_of(message).timestamp(), mark_of(message)
        if mark is None:
            self._since[place][_offset_of(message)] = at
        elif (letter := Letter.read(mark.letter)) and letter[:2] == place:
            self._mark(self._since[place], letter.offset, mark.replay, at)

    @staticmethod
    def _mark(waiting: dict[int, float], offset: int, replay: Replay, at: float) -> None:
        """Take out a letter that was sent again. One whose second sending has begun waits again, since then."""
        if replay is Replay.DONE:
            waiting.pop(offset, None)
        else:
            waiting.setdefault(offset, at)


def _place_of(message: Message) -> Place:
    return str(message.topic()), int(message.partition() or 0)


def _offset_of(message: Message) -> int:
    return int(message.offset() or 0)
