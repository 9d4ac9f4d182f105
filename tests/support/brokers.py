"""What a test broker is set to: two more listeners, of which one demands a user over TLS (SASL), one a client certificate; and no new topics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._scram import ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion

from tests.support.tls import HOST, Authority
from workers.local.kafka import Kafka
from workers.local.ports import PortBook
from workers.local.stack import LocalStack

SASL, MUTUAL = "SASL", "MUTUAL"
SCRAM_USER, PLAIN_USER, PASSWORD = "scram", "plain", "kafka-2026"
MODULES = "org.apache.kafka.common.security"
# PLAIN has its users in the settings, SCRAM in the broker's own records (`add_scram_user`).
SECURITY = """
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MUTUAL:SSL
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.mutual.ssl.client.auth=required
listener.name.sasl.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl.scram-sha-512.sasl.jaas.config={modules}.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config={modules}.plain.PlainLoginModule required user_{user}="{password}";
"""


@contextmanager
def demanding_listeners(authority: Authority) -> Iterator[None]:
    """Give a broker that starts in this block the two listeners, beside its own."""
    write_properties = Kafka._write_properties
    server = authority.issue(HOST)
    keystore = server.certificate.with_suffix(".keystore")
    keystore.write_text(server.key.read_text() + server.certificate.read_text())
    security = SECURITY.format(keystore=keystore, authority=authority.file, modules=MODULES, user=PLAIN_USER, password=PASSWORD)

    def with_listeners(kafka: Kafka) -> Path:
        file = write_properties(kafka)
        with PortBook(kafka._directory.parent / "ports.json") as ports:
            added = ",".join(f"{name}://{HOST}:{ports.take(f'kafka-{name}')}" for name in (SASL, MUTUAL))
        # Both the addresses where it listens, and those that it tells its clients.
        file.write_text(re.sub(r"(?m)^(advertised\.)?listeners=.*$", rf"\g<0>,{added}", file.read_text()) + security)
        return file

    with patch.object(Kafka, "_write_properties", with_listeners):
        yield


@contextmanager
def without_new_topics() -> Iterator[None]:
    """Have a broker that starts in this block make no topic by itself, as many are set in production."""
    write_properties = Kafka._write_properties

    def strictly(kafka: Kafka) -> Path:
        file = write_properties(kafka)
        file.write_text(file.read_text() + "auto.create.topics.enable=false\n")
        return file

    with patch.object(Kafka, "_write_properties", strictly):
        yield


def address_of(stack: LocalStack, listener: str) -> str:
    """Read where the stack's broker has a listener."""
    properties = (stack.data_dir / "kafka" / "server.properties").read_text()
    [(address)] = re.findall(rf"(?m)^advertised\.listeners=.*{listener}://([^,\n]+)", properties)
    return str(address)


def add_scram_user(stack: LocalStack) -> None:
    """Make the broker know the user of SCRAM."""
    user = UserScramCredentialUpsertion(SCRAM_USER, ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096), PASSWORD.encode())
    client = AdminClient({"bootstrap.servers": stack.kafka.bootstrap})
    client.alter_user_scram_credentials([user])[SCRAM_USER].result(30)
