"""A process refuses at its start, in one line, what it could never use: such secrets, key files and archive directories."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.identity_provider import ec_key, rsa_key
from tests.unit.test_settings import DATABASE, NEEDS
from tests.unit.test_start_checks import SECRET, problem
from workers.start_checks import require_settings

WRONG_SECRETS = {
    "a blank at its end": "\N{SPACE}",
    "a line break inside": "\nmore",
    "a carriage return": "\rX-Other: 1",
    "a tab": "\tmore",
    "half of a surrogate pair": "\udcff",
}


@pytest.mark.parametrize("wrong", [*WRONG_SECRETS, "another script"])
@pytest.mark.parametrize("command", ["tasks", "reconcile"])
def test_a_token_that_no_header_can_carry_is_refused(command: str, wrong: str, tmp_path: Path) -> None:
    token = SECRET + {**WRONG_SECRETS, "another script": "é"}[wrong]
    (tmp_path / "token").write_bytes(token.encode(errors="surrogateescape"))

    assert problem(command, provider_token=token) == "Q2O_PROVIDER_TOKEN is not a bearer token: visible ASCII characters, no blank"
    assert problem(command, provider_token="", provider_token_file=str(tmp_path / "token")).startswith("Q2O_PROVIDER_TOKEN_FILE")


def test_a_line_break_at_the_end_of_a_file_belongs_to_no_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\r\n")

    require_settings("tasks", {**NEEDS["tasks"], "Q2O_PROVIDER_TOKEN": "", "Q2O_PROVIDER_TOKEN_FILE": str(tmp_path / "token")})


@pytest.mark.parametrize("wrong", sorted(set(WRONG_SECRETS) - {"a blank at its end"}))
@pytest.mark.parametrize(
    ("command", "name", "others"),
    [
        ("dispatch", "engine_password", {}),
        ("dispatch", "dispatch_engine_password", {}),
        ("relay", "kafka_password", {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_user": "relay"}),
    ],
)
def test_a_password_that_cannot_be_proved_is_refused(command: str, name: str, others: dict[str, str], wrong: str) -> None:
    line = problem(command, **others, **{name: SECRET + WRONG_SECRETS[wrong]})

    assert line == f"Q2O_{name.upper()} is not a secret on one line, in UTF-8"


def test_other_secrets_in_another_encoding_are_refused_without_a_trace() -> None:
    assert problem("http", jwt_issuer="", jwt_audience="", jwt_secret=SECRET * 9 + "\udcff").startswith("Q2O_JWT_SECRET is not")
    assert problem("http", callback_secret="whsec_\udcff").startswith("Q2O_CALLBACK_SECRET cannot be used")
    assert problem("reconcile", redis_url="redis://:\udcff@redis").startswith("Q2O_REDIS_URL is not")


@pytest.mark.parametrize(
    "content", ["", "<html>", "[]", "{}", '{"keys": []}', json.dumps({"keys": [dict(rsa_key("weak", 1024).jwk)]})]
)
def test_a_key_file_without_keys_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)

    assert problem("http", jwks=str(file)).startswith(f"Q2O_JWKS={file} is no file with keys that can be used: ")


@pytest.mark.parametrize("name", ["missing", ".", "keys/below", "//[odd"])
def test_a_key_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)

    assert problem("http", jwks=name).startswith(f"Q2O_JWKS={name} is no file with keys that can be used: ")


def test_a_key_file_with_keys_passes_and_an_address_may_be_away(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(json.dumps({"keys": [dict(ec_key("first").jwk)]}))

    for key_set in (str(file), "https://127.0.0.1:1/keys"):
        require_settings("http", {**NEEDS["http"], "Q2O_JWKS": key_set})


def test_an_archive_in_which_no_file_can_be_made_is_refused_by_what_writes_there() -> None:
    """In /proc not even root can."""
    assert problem("retain", archive_dir="/proc").startswith("Q2O_ARCHIVE_DIR=/proc cannot be written (")
    require_settings("audit", {**DATABASE, "Q2O_ARCHIVE_DIR": "/proc"})
