"""Producers without a broker, and relays that use them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

import pytest
from confluent_kafka import KafkaError
from sqlalchemy import Engine as Database
from sqlalchemy import text

from tests.support.database import acting
from workers.kafka.relay import Relay
from workers.runtime.kafka_access import KafkaAccess

TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)


class Clock:
    """The clock of a relay."""

    now = 0.0

    @classmethod
    def of_relays(cls, monkeypatch: pytest.MonkeyPatch) -> Self:
        """Give relays a clock that stands until a test moves it."""
        clock = cls()
        monkeypatch.setattr("workers.kafka.relay.time", clock)
        return clock

    def monotonic(self) -> float:
        return self.now


class Confirming:
    """A producer whose broker refuses `unwanted` records with `answer`, and confirms the others, `at_once` records in each poll.

    The calls in `raises` raise, each as often as it says. `keys` are those of all that was sent.
    """

    def __init__(
        self,
        raises: dict[str, list[Exception]],
        poison: str = "",
        unwanted: str = "",
        at_once: int = 1_000,
        answer: KafkaError = TOO_LARGE,
    ) -> None:
        self._raises = raises
        self._poison = poison
        self._unwanted = unwanted
        self._at_once = at_once
        self._answer = answer
        self._sent: list[tuple[bytes, Any]] = []
        self.keys: list[str] = []

    def produce(self, _topic: str, _value: bytes, key: bytes, **options: Any) -> None:
        self._raise("produce")
        if self._poison and self._poison.encode() in key:
            raise ValueError("a value that the library does not take")
        self._sent.append((key, options["on_delivery"]))
        self.keys.append(key.decode())

    def poll(self, _: float) -> int:
        self._raise("poll")
        for _ in range(min(self._at_once, len(self._sent))):
            key, report = self._sent.pop(0)
            is_refused = self._unwanted and self._unwanted.encode() in key
            report(self._answer if is_refused else None, None)
        return 0

    def purge(self) -> None:
        self._raise("purge")
        while self._sent:
            _, report = self._sent.pop()
            report(KafkaError(KafkaError._PURGE_QUEUE), None)

    def flush(self, _: float) -> int:
        self._raise("flush")
        return 0

    def _raise(self, call: str) -> None:
        if self._raises.get(call):
            raise self._raises[call].pop(0)


def relay_with(db: Database, monkeypatch: pytest.MonkeyPatch, producers: list[Confirming], batch_size: int = 1_000) -> Relay:
    """Make a relay that uses these producers in turn."""
    monkeypatch.setattr("workers.kafka.relay.new_producer", lambda *_: producers.pop(0))
    return Relay(acting(db, "relay"), KafkaAccess(bootstrap="127.0.0.1:9"), batch_size=batch_size, lease=timedelta(seconds=2))


def be_due(db: Database) -> None:
    """Let the wait of every event be over."""
    with db.begin() as connection:
        connection.execute(text("UPDATE outbox_event SET due_at = clock_timestamp()"))
