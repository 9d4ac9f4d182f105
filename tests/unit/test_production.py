"""`Q2O_MODE=production` refuses what only the local suite may have, one line for each fault, all at once, with exit code 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from workers import cli
from workers.providers.signatures import new_secret
from workers.runtime.environment import SettingError
from workers.runtime.production import is_repetitive, require_fitness

PASSWORD = "Zx81-kQ7v_mPe3Lw"
GOOD = {
    "Q2O_MODE": "production",
    "Q2O_DATABASE_URL": f"postgresql+psycopg://q2o:{PASSWORD}@db.example/q2o?sslmode=verify-full",
    "Q2O_KAFKA": "kafka.example:9093",
    "Q2O_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "Q2O_KAFKA_USER": "relay",
    "Q2O_KAFKA_PASSWORD": PASSWORD,
    "Q2O_ENGINE_URL": "https://engine.example/engine-rest",
    "Q2O_ENGINE_USER": "worker",
    "Q2O_ENGINE_PASSWORD": PASSWORD,
    "Q2O_PROVIDER_URL": "https://provider.example",
    "Q2O_PROVIDER_TOKEN": PASSWORD,
    "Q2O_CALLBACK_SECRET": new_secret(),
    "Q2O_JWT_ISSUER": "https://login.example",
    "Q2O_JWT_AUDIENCE": "q2o",
    **{f"Q2O_{process}_ENGINE_PASSWORD": PASSWORD for process in ("TASKS", "DISPATCH", "RECONCILE")},
}


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("Q2O_")]:
        monkeypatch.delenv(name)


def q2o(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(cli.app, [*arguments], env=variables)


def test_settings_that_are_good_enough_pass() -> None:
    require_fitness(GOOD)


def test_the_local_suite_may_have_everything() -> None:
    require_fitness({"Q2O_JWT_SECRET": "x", "Q2O_ENGINE_URL": "http://127.0.0.1:1/engine-rest", "Q2O_ENGINE_PASSWORD": "x"})


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("Q2O_JWT_SECRET", PASSWORD * 3, "Q2O_JWT_SECRET .*HS256"),
        ("Q2O_JWT_SECRET_FILE", "/any/file", "Q2O_JWT_SECRET .*HS256"),
        ("Q2O_ENGINE_URL", "http://engine.example/engine-rest", "Q2O_ENGINE_URL is not encrypted"),
        ("Q2O_ENGINE_URL", "HTTP://engine.example/engine-rest", "Q2O_ENGINE_URL is not encrypted"),
        ("Q2O_PROVIDER_URL", "http://provider.example", "Q2O_PROVIDER_URL is not encrypted"),
        ("Q2O_JWT_ISSUER", "http://login.example", "Q2O_JWT_ISSUER is not encrypted"),
        ("Q2O_JWKS", "http://login.example/keys", "Q2O_JWKS is not encrypted"),
        ("Q2O_ENGINE_PASSWORD", "Demo-2026-q2o", "Q2O_ENGINE_PASSWORD is too short"),
        ("Q2O_KAFKA_PASSWORD", "kafka-2026", "Q2O_KAFKA_PASSWORD is too short"),
        ("Q2O_PROVIDER_TOKEN", "passwordpassword", "Q2O_PROVIDER_TOKEN is repetitive"),
        ("Q2O_CALLBACK_SECRET", "whsec_" + "A" * 32, "a secret in Q2O_CALLBACK_SECRET is repetitive"),
        ("Q2O_CALLBACK_SECRET", PASSWORD + ",whsec_" + "A" * 32, "a secret in Q2O_CALLBACK_SECRET is repetitive"),
        ("Q2O_CALLBACK_SECRET", "whsec_cGFzc3dvcmRwYXNzd29yZHBhc3N3b3Jk", "a secret in Q2O_CALLBACK_SECRET is repetitive"),
        ("Q2O_REDIS_URL", f"redis://q2o:{PASSWORD}@redis.example", "Q2O_REDIS_URL is not encrypted"),
        ("Q2O_REDIS_URL", "rediss://redis.example", "Q2O_REDIS_URL has no password"),
        ("Q2O_REDIS_URL", "rediss://q2o:q2o@redis.example", "the password in Q2O_REDIS_URL is too short"),
        (
            "Q2O_DATABASE_URL",
            "postgresql+psycopg://q2o:q2o@db.example/q2o?sslmode=verify-full",
            "the password in Q2O_DATABASE_URL is too short",
        ),
        (
            "Q2O_DATABASE_URL",
            "postgresql+psycopg://q2o@db.example/q2o?password=q2o&sslmode=verify-full",
            "the password in Q2O_DATABASE_URL is too short",
        ),
        (
            "Q2O_DATABASE_URL",
            "postgresql+psycopg://q2o:%71%32%6f%71%32%6f@db.example/q2o?sslmode=verify-full",
            "the password in Q2O_DATABASE_URL is too short",
        ),
        (
            "Q2O_RELAY_DATABASE_URL",
            "postgresql+psycopg://relay:q2o@db.example/q2o?sslmode=verify-full",
            "the password in Q2O_RELAY_DATABASE_URL is too short",
        ),
        (
            "Q2O_RELAY_DATABASE_URL",
            f"postgresql+psycopg://relay:{PASSWORD}@db.example/q2o",
            "Q2O_RELAY_DATABASE_URL does not demand a certificate that is checked",
        ),
    ],
)
def test_production_refuses_a_setting_in_one_line(name: str, value: str, fault: str) -> None:
    with pytest.raises(SettingError, match=f"^{fault}") as refused:
        require_fitness({**GOOD, name: value})
    assert len(str(refused.value).splitlines()) == 1
    assert value.rpartition("://")[2] not in str(refused.value)


@pytest.mark.parametrize(("protocol", "named"), [("", "PLAINTEXT"), ("SASL_PLAINTEXT", "SASL_PLAINTEXT")])
def test_production_refuses_kafka_without_encryption(protocol: str, named: str) -> None:
    with pytest.raises(SettingError, match=f"^Q2O_KAFKA_SECURITY_PROTOCOL={named} is not encrypted: set it to SSL or SASL_SSL$"):
        require_fitness({**GOOD, "Q2O_KAFKA_SECURITY_PROTOCOL": protocol})


@pytest.mark.parametrize("parameters", ["", "?sslmode=require", "?sslmode=verify-ca"])
def test_production_refuses_a_database_whose_certificate_is_not_checked(parameters: str) -> None:
    address = f"postgresql+psycopg://q2o:{PASSWORD}@db.example/q2o{parameters}"

    with pytest.raises(SettingError, match=r"^Q2O_DATABASE_URL does not demand a certificate that is checked: .*$") as refused:
        require_fitness({**GOOD, "Q2O_DATABASE_URL": address})
    assert PASSWORD not in str(refused.value)


def test_a_weak_secret_in_a_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("short\n")
    others = {name: value for name, value in GOOD.items() if name != "Q2O_ENGINE_PASSWORD"}

    with pytest.raises(SettingError, match="Q2O_ENGINE_PASSWORD is too short"):
        require_fitness({**others, "Q2O_ENGINE_PASSWORD_FILE": str(tmp_path / "password")})


def test_an_encrypted_redis_with_a_password_passes() -> None:
    require_fitness({**GOOD, "Q2O_REDIS_URL": f"rediss://q2o:{PASSWORD}@redis.example:6380/1"})


def test_a_database_address_without_a_password_passes() -> None:
    require_fitness({**GOOD, "Q2O_DATABASE_URL": "postgresql+psycopg://q2o@db.example/q2o?sslmode=verify-full"})


@pytest.mark.parametrize(
    "secret",
    [
        "aaaaaaaaaaaaaaaa",
        "abcabcabcabcabcabc",
        "correct-horse-correct-horse-",
        "abcdefghijklmnopqrstuv",
        "2020202020202020",
        "aK5~Ka~5a5KK~~aa55Ka",
    ],
)
def test_a_repetitive_secret_is_recognised(secret: str) -> None:
    assert is_repetitive(secret)


@pytest.mark.parametrize("secret", [PASSWORD, "d41d8cd98f00b204e9800998ecf8427e", "kq4v-7hsn-p2wd-9xtb"])
def test_a_random_secret_is_not_called_repetitive(secret: str) -> None:
    assert not is_repetitive(secret)


@pytest.mark.parametrize("process", ["http", "tasks", "dispatch", "relay", "inbox", "reconcile", "migrate", "deploy"])
def test_a_process_names_all_faults_at_once(process: str) -> None:
    ended = q2o(process, **{**GOOD, "Q2O_ENGINE_URL": "http://engine.example", "Q2O_ENGINE_PASSWORD": "x", "Q2O_JWT_SECRET": "x"})

    lines = ended.stderr.splitlines()
    assert ended.exit_code == 2
    assert [line.split()[:2] for line in lines] == [
        ["q2o:", name] for name in ("Q2O_JWT_SECRET", "Q2O_ENGINE_URL", "Q2O_ENGINE_PASSWORD")
    ]


@pytest.mark.parametrize(
    "command",
    [
        ("up",),
        ("demo",),
        ("sandbox", "--callback-url", "http://127.0.0.1:1"),
        ("token", "--subject", "alice", "--role", "salesAgent"),
    ],
)
def test_what_belongs_to_the_local_suite_does_not_start(command: tuple[str, ...]) -> None:
    ended = q2o(*command, **GOOD)

    assert ended.exit_code == 2
    assert ended.stderr.startswith(f"q2o: `q2o {command[0]}` is refused with Q2O_MODE=production: ")
    assert (ended.stderr.count("\n"), ended.stdout) == (1, "")


@pytest.mark.parametrize("command", ["migrate", "up"])
def test_a_mode_that_does_not_exist_is_named(command: str) -> None:
    ended = q2o(command, Q2O_MODE="prod", Q2O_DATABASE_URL="postgresql+psycopg://q2o@127.0.0.1:1/q2o")

    assert (ended.exit_code, ended.stderr.count("\n")) == (2, 1)
    assert "Q2O_MODE=prod is not one of local, production" in ended.stderr
