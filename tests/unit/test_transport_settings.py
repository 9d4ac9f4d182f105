"""The settings of encrypted connections: a file that cannot be used, or a combination without a meaning, ends a process with one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from tests.support.tls import Authority
from workers.runtime.environment import Environment, SettingError
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.transport import ClientTls

SASL = {"Q2O_KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "Q2O_KAFKA_USER": "relay", "Q2O_KAFKA_PASSWORD": "secret"}


def read(environment: dict[str, str], unencrypted: str | None = None) -> ClientTls:
    return ClientTls.of("engine", Environment(environment), unencrypted=unencrypted)


def refused(environment: dict[str, str], unencrypted: str | None = None) -> str:
    with pytest.raises(SettingError) as refusal:
        read(environment, unencrypted)
    message = str(refusal.value)
    assert "\n" not in message
    return message


def kafka(environment: dict[str, str]) -> KafkaAccess:
    return KafkaAccess.of(Environment({"Q2O_KAFKA": "broker:9092", **environment}))


def kafka_refused(environment: dict[str, str]) -> str:
    with pytest.raises(SettingError) as refusal:
        kafka(environment)
    return str(refusal.value)


def test_without_settings_the_public_authorities_are_trusted() -> None:
    assert read({}) == ClientTls(peer="engine")


def test_the_files_of_a_peer_are_read_by_its_name(authority: Authority) -> None:
    pair = authority.issue("worker")
    files = {"CA": authority.file, "CERTIFICATE": pair.certificate, "KEY": pair.key}

    assert read({f"Q2O_ENGINE_{name}_FILE": str(file) for name, file in files.items()}) == authority.client("engine", pair)


def test_a_file_for_an_address_without_tls_is_refused(authority: Authority) -> None:
    message = refused({"Q2O_ENGINE_CA_FILE": str(authority.file)}, "Q2O_ENGINE_URL=http://engine:8080/engine-rest")

    assert message == "Q2O_ENGINE_CA_FILE is set, but Q2O_ENGINE_URL=http://engine:8080/engine-rest has no TLS: correct one of them"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"

    assert refused({"Q2O_ENGINE_CA_FILE": str(missing)}) == (
        f"Q2O_ENGINE_CA_FILE={missing} cannot be read (No such file or directory): correct it"
    )


def test_a_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate", encoding="utf-8")

    assert f"Q2O_ENGINE_CA_FILE={empty} holds no PEM text" in refused({"Q2O_ENGINE_CA_FILE": str(empty)})


@pytest.mark.parametrize(("given", "missing"), [("CERTIFICATE", "KEY"), ("KEY", "CERTIFICATE")])
def test_a_certificate_and_its_key_come_together(authority: Authority, given: str, missing: str) -> None:
    message = refused({f"Q2O_ENGINE_{given}_FILE": str(authority.issue("worker").certificate)})

    assert message == f"Q2O_ENGINE_{given}_FILE is set without Q2O_ENGINE_{missing}_FILE: set both"


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    mine, other = authority.issue("worker"), authority.issue("other")

    message = refused({"Q2O_ENGINE_CERTIFICATE_FILE": str(mine.certificate), "Q2O_ENGINE_KEY_FILE": str(other.key)})

    assert "Q2O_ENGINE_CERTIFICATE_FILE" in message
    assert "belongs to the key in Q2O_ENGINE_KEY_FILE" in message


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(authority: Authority, tmp_path: Path) -> None:
    pair, encrypted = authority.issue("worker"), tmp_path / "encrypted.key"
    key = serialization.load_pem_private_key(pair.key.read_bytes(), password=None)
    password = serialization.BestAvailableEncryption(b"secret")
    encrypted.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password))

    message = refused({"Q2O_ENGINE_CERTIFICATE_FILE": str(pair.certificate), "Q2O_ENGINE_KEY_FILE": str(encrypted)})

    assert f"Q2O_ENGINE_KEY_FILE={encrypted} is encrypted" in message


def test_kafka_without_settings_has_neither_tls_nor_a_user() -> None:
    access = kafka({})

    assert access == KafkaAccess(bootstrap="broker:9092")
    assert access.client_settings() == {"bootstrap.servers": "broker:9092", "security.protocol": "PLAINTEXT"}


def test_the_strongest_mechanism_is_the_default_of_a_kafka_user() -> None:
    settings = kafka(SASL).client_settings()

    assert settings == {
        "bootstrap.servers": "broker:9092",
        "security.protocol": "SASL_SSL",
        "ssl.endpoint.identification.algorithm": "https",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "relay",
        "sasl.password": "secret",
    }


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"Q2O_KAFKA_SECURITY_PROTOCOL": "TLS"}, "Q2O_KAFKA_SECURITY_PROTOCOL=TLS is not one of PLAINTEXT, SSL,"),
        ({**SASL, "Q2O_KAFKA_SASL_MECHANISM": "GSSAPI"}, "Q2O_KAFKA_SASL_MECHANISM=GSSAPI is not one of"),
        ({**SASL, "Q2O_KAFKA_USER": ""}, "Q2O_KAFKA_SECURITY_PROTOCOL=SASL_SSL needs Q2O_KAFKA_USER: set it"),
        ({**SASL, "Q2O_KAFKA_SECURITY_PROTOCOL": "SSL"}, "Q2O_KAFKA_USER is set, but Q2O_KAFKA_SECURITY_PROTOCOL=SSL has no user"),
        ({"Q2O_KAFKA_CA_FILE": "/ca.pem"}, "Q2O_KAFKA_CA_FILE is set, but Q2O_KAFKA_SECURITY_PROTOCOL=PLAINTEXT has no TLS"),
        (
            {**SASL, "Q2O_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "Q2O_KAFKA_SASL_MECHANISM": "PLAIN"},
            "Q2O_KAFKA_SASL_MECHANISM=PLAIN would send the password unencrypted",
        ),
    ],
)
def test_settings_of_kafka_that_do_not_fit_together_are_refused(environment: dict[str, str], words: str) -> None:
    message = kafka_refused(environment)

    assert words in message
    assert "secret" not in message
