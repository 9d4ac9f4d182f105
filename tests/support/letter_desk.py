"""An operator's desk for dead letters: makes them on a broker, and uses the commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from confluent_kafka import Message
from typer.testing import CliRunner, Result

from tests.support.topics import Topics
from workers.cli import app
from workers.kafka.dead_letters import DeadLetters
from workers.kafka.topics import ORDERS
from workers.runtime.kafka import new_producer
from workers.runtime.kafka_reading import record_at

Headers = Sequence[tuple[str, bytes]]


@dataclass
class Desk:
    """An operator who uses the commands on a broker."""

    topics: Topics

    def send(self, topic: str, value: bytes | None, key: bytes | None, headers: Headers = (), at: int = 0) -> Message:
        """Send a record, and return it as a consumer receives it. `at`: its time in milliseconds, 0: now."""
        producer, sent = new_producer(self.topics.kafka, None), list[Message]()
        producer.produce(
            topic, value, key, headers=list(headers), timestamp=at, on_delivery=lambda _, message: sent.append(message)
        )
        assert producer.flush(30) == 0
        found = record_at(self.topics.kafka, topic, int(sent[0].partition() or 0), int(sent[0].offset() or 0))
        assert found is not None
        return found

    def letter(self, value: bytes | None, headers: Headers = (), key: bytes | None = None) -> str:
        """Make a dead letter of a record; returns the key of the record, which no other has."""
        key = key or str(uuid4()).encode()
        DeadLetters(self.topics.kafka).put(self.send(ORDERS, value, key, headers), "it is no event")
        return key.decode()

    def run(self, *arguments: str) -> Result:
        given = {"Q2O_KAFKA": self.topics.kafka.bootstrap}
        return CliRunner().invoke(app, ["dead-letters", *arguments], env=given)

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        result = self.run("list", "--json", *arguments)
        assert result.exit_code == 0, result.output
        return list(json.loads(result.stdout))

    def place(self, key: str) -> str:
        [letter] = self.listed("--id", key)
        return str(letter["letter"])

    def records(self, key: str) -> list[Message]:
        """The records in the topic that have this key."""
        return [record for record in self.topics.records(ORDERS) if record.key() == key.encode()]
