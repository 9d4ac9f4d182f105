"""Standard output has the answer of a command alone: while Kafka is away, a person gets one line on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
from confluent_kafka import KafkaError, KafkaException
from sqlalchemy import Engine
from structlog.testing import capture_logs
from typer.testing import CliRunner

from reconciliation.audit_sources import KafkaTopics
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.ports import free_port_that_refuses
from workers import suite
from workers.cli import app
from workers.runtime.kafka import ClientErrors, new_producer
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.kafka_reading import records
from workers.runtime.retries import REMINDER

SHORT = timedelta(seconds=2)  # instead of the half minute that a person waits; the client tries many times meanwhile


@pytest.fixture
def kafka_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a broker that is away, for which nobody waits long."""
    monkeypatch.setattr("workers.kafka.letters.records", partial(records, silence=SHORT))
    monkeypatch.setattr(KafkaTopics.__init__, "__defaults__", (SHORT,))
    with free_port_that_refuses() as port:
        yield f"127.0.0.1:{port}"


@pytest.mark.parametrize(
    "arguments", [("list",), ("list", "--json"), ("show", "oms.order.v1.dlq/0/1"), ("replay", "oms.order.v1.dlq/0/1")]
)
def test_a_question_to_kafka_that_is_away_is_one_line(kafka_away: str, arguments: tuple[str, ...]) -> None:
    ended = CliRunner().invoke(app, ["dead-letters", *arguments], env={"Q2O_KAFKA": kafka_away})

    assert (ended.exit_code, ended.stdout) == (2, "")
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"q2o: Kafka at {kafka_away} did not return its records: ")


@pytest.mark.parametrize("command", ["audit", "status"])
def test_a_report_while_kafka_is_away_is_pure_json(
    db: Engine, offers: Offers, kafka_away: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    offers.draft_quote()
    monkeypatch.setattr(suite, "connect", lambda *_: acting(db, "audit"))
    address = db.url.render_as_string(hide_password=False)

    ended = CliRunner().invoke(app, [command, "--json"], env={"Q2O_DATABASE_URL": address, "Q2O_KAFKA": kafka_away})

    assert json.loads(ended.stdout)
    assert ended.stderr.strip() == ""


def test_the_library_of_kafka_writes_nothing_to_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A fatal error is of its highest level, which `log_level` does not switch off; the relay gets it as an exception."""
    slow_broker = {"test.mock.num.brokers": "1", "test.mock.broker.rtt": "500"}
    monkeypatch.setattr(KafkaAccess, "client_settings", lambda _: slow_broker)
    producer = new_producer(KafkaAccess(bootstrap="nobody:1"), None)
    producer.produce("topic", b"first")
    assert producer.flush(30) == 0

    producer.produce("topic", b"second")
    producer.poll(0.2)
    producer.purge()
    with pytest.raises((KafkaException, SystemError)):
        producer.flush(10)

    assert capfd.readouterr().err == ""


def test_a_client_without_brokers_says_so_every_minute() -> None:
    minute = REMINDER.total_seconds()
    times = iter((0.0, 1.0, minute, minute + 1))
    errors = ClientErrors(clock=lambda: next(times))

    with capture_logs() as logs:
        for _ in range(4):
            errors(KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down"))

    assert [log["log_level"] for log in logs] == ["warning", "debug", "warning", "debug"]
