"""Kafka listeners that demand TLS, a user, or a client certificate: what works by settings, and what a refusal says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from uuid import uuid4

import pytest
import typer
from confluent_kafka import KafkaError
from sqlalchemy import Engine
from structlog.testing import capture_logs

from tests.support.brokers import MUTUAL, PASSWORD, PLAIN_USER, SASL, SCRAM_USER, add_scram_user, address_of
from tests.support.database import acting
from tests.support.relays import committed, write
from tests.support.tls import Authority, Pair
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.cli_errors import plain_errors
from workers.kafka import views
from workers.kafka.inbox import Inbox
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS, all_topics
from workers.local.stack import LocalStack
from workers.runtime.environment import Environment
from workers.runtime.kafka import ClientErrors, KafkaUntrustedError, ensure_topics
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.retries import REMINDER

Change = Callable[["Listeners"], KafkaAccess]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """The demanding listeners of the broker, and the settings by which a process may use them."""

    stack: LocalStack
    authority: Authority
    stranger: Authority

    def sasl(self, host: str = "127.0.0.1", ca: Authority | None = None, **changed: str) -> KafkaAccess:
        """Read the settings of a user of SCRAM, with changes."""
        return self._access(
            SASL,
            host,
            {
                "Q2O_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "Q2O_KAFKA_CA_FILE": str((ca or self.authority).file),
                "Q2O_KAFKA_USER": SCRAM_USER,
                "Q2O_KAFKA_PASSWORD": PASSWORD,
                **changed,
            },
        )

    def mutual(self, pair: Pair | None) -> KafkaAccess:
        """Read the settings of a client with a certificate, or without one."""
        files = {"CA": self.authority.file} | ({"CERTIFICATE": pair.certificate, "KEY": pair.key} if pair else {})
        settings = {f"Q2O_KAFKA_{name}_FILE": str(file) for name, file in files.items()}
        return self._access(MUTUAL, "127.0.0.1", {"Q2O_KAFKA_SECURITY_PROTOCOL": "SSL", **settings})

    def _access(self, listener: str, host: str, environment: Mapping[str, str]) -> KafkaAccess:
        address = address_of(self.stack, listener).replace("127.0.0.1", host)
        return KafkaAccess.of(Environment({"Q2O_KAFKA": address, **environment}))


@pytest.fixture
def listeners(broker: LocalStack, authority: Authority, stranger: Authority) -> Listeners:
    add_scram_user(broker)
    return Listeners(stack=broker, authority=authority, stranger=stranger)


@pytest.mark.parametrize(
    "access",
    [
        pytest.param(lambda it: it.sasl(), id="a user of SCRAM-SHA-512"),
        pytest.param(lambda it: it.sasl(Q2O_KAFKA_USER=PLAIN_USER, Q2O_KAFKA_SASL_MECHANISM="PLAIN"), id="a user of PLAIN"),
        pytest.param(lambda it: it.mutual(it.authority.issue("worker")), id="a client certificate"),
    ],
)
def test_events_are_published_and_read_as(access: Change, listeners: Listeners, db: Engine, topics: Topics) -> None:
    kafka = access(listeners)
    ensure_topics(kafka, all_topics())
    write(db, uuid4(), 1)

    assert Relay(acting(db, "relay"), kafka).run_once() == 1

    assert {event.event_id for event in topics.events(ORDERS)} == committed(db)
    assert read_by(Inbox(acting(db, "inbox"), kafka, views.ORDERS, group=f"test-{uuid4()}")) == 1


def read_by(inbox: Inbox) -> int:
    """Read until a message has come: a new member of a group gets its partitions only after some polls."""
    with closing(inbox):
        return eventually(inbox.run_once, "the inbox reads the event")


REFUSALS: Mapping[str, tuple[Change, str]] = {
    "a wrong password": (lambda it: it.sasl(Q2O_KAFKA_PASSWORD="wrong"), "Q2O_KAFKA_PASSWORD"),
    "a mechanism that the broker does not offer": (
        lambda it: it.sasl(Q2O_KAFKA_SASL_MECHANISM="SCRAM-SHA-256"),
        "Q2O_KAFKA_SASL_MECHANISM",
    ),
    "an authority that did not sign the broker's certificate": (lambda it: it.sasl(ca=it.stranger), "Q2O_KAFKA_CA_FILE"),
    "a host name that the certificate lacks": (lambda it: it.sasl(host="localhost"), "have their certificates name this address"),
    "no client certificate": (lambda it: it.mutual(None), "Q2O_KAFKA_CERTIFICATE_FILE"),
    "a client certificate of a stranger": (lambda it: it.mutual(it.stranger.issue("worker")), "Q2O_KAFKA_CERTIFICATE_FILE"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_told_at_once_and_names_the_setting(refusal: str, listeners: Listeners) -> None:
    access, words = REFUSALS[refusal]

    with pytest.raises(KafkaUntrustedError) as refused:
        ensure_topics(access(listeners), ["any"])

    message = str(refused.value)
    assert words in message
    assert access(listeners).bootstrap in message
    assert "\n" not in message
    assert PASSWORD not in message


def test_a_process_that_kafka_refuses_ends_with_one_line(listeners: Listeners, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, plain_errors():
        ensure_topics(listeners.sasl(ca=listeners.stranger), ["any"])

    assert ended.value.exit_code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "Q2O_KAFKA_CA_FILE" in line


def test_a_running_client_that_kafka_refuses_says_so_every_minute() -> None:
    minute = REMINDER.total_seconds()
    times = iter((0.0, 1.0, minute, minute + 1))
    errors = ClientErrors(clock=lambda: next(times))
    refusal = KafkaError(KafkaError._AUTHENTICATION, "SASL authentication error (after 3ms in state AUTH_REQ)")

    with capture_logs() as logs:
        for _ in range(4):
            errors(refusal)

    assert [(log["log_level"], log["event"]) for log in logs] == [("error", "service_untrusted")] * 2
    assert "Q2O_KAFKA_USER" in logs[0]["reason"]
