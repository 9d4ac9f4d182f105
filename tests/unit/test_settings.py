"""A process asks only for the settings that it needs, and one line names a setting that is missing or wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner

from domain.rights import Login
from workers import suite
from workers.cli import app
from workers.providers.signatures import new_secret
from workers.runtime.callback_secrets import HOW_TO_MAKE
from workers.runtime.database_roles import logins_of
from workers.runtime.environment import SECRETS, of_process, with_files_read
from workers.runtime.secret_files import reveal
from workers.runtime.settings import SettingError, Settings

DATABASE = {"Q2O_DATABASE_URL": "postgresql+psycopg://q2o@127.0.0.1:1/q2o"}
KAFKA = {"Q2O_KAFKA": "127.0.0.1:1"}
ENGINE = {"Q2O_ENGINE_URL": "http://127.0.0.1:1/engine-rest", "Q2O_ENGINE_USER": "worker", "Q2O_ENGINE_PASSWORD": "secret"}
PROVIDER = {"Q2O_PROVIDER_URL": "http://127.0.0.1:1", "Q2O_PROVIDER_TOKEN": "token"}
CALLERS = {"Q2O_JWT_ISSUER": "https://login.example", "Q2O_JWT_AUDIENCE": "q2o", "Q2O_CALLBACK_SECRET": new_secret()}
NEEDS: Mapping[str, Mapping[str, str]] = {
    "http": DATABASE | CALLERS,
    "tasks": DATABASE | ENGINE | PROVIDER,
    "dispatch": DATABASE | ENGINE,
    "relay": DATABASE | KAFKA,
    "inbox": DATABASE | KAFKA,
    "reconcile": DATABASE | ENGINE | PROVIDER,
    "retain": DATABASE,
}
"""Process -> the variables without which it does not start."""


@contextmanager
def built(process: str, variables: Mapping[str, str]) -> Iterator[None]:
    """Build the loop of a process, as its command does before it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suite, "ensure_topics", lambda *_, **__: None)  # would wait for Kafka
        loop = suite.PROCESSES[process](Settings({"Q2O_HTTP_PORT": "0", **variables}))
        yield
        for end in ("stop", "close"):
            getattr(loop, end, lambda: None)()


@pytest.mark.parametrize("process", sorted(suite.PROCESSES))
def test_a_process_is_built_from_its_own_settings_alone(process: str) -> None:
    with built(process, NEEDS[process]):
        pass


@pytest.mark.parametrize(("process", "name"), [(process, name) for process, needed in NEEDS.items() for name in needed])
def test_a_process_names_a_setting_that_it_misses(process: str, name: str) -> None:
    rest = {key: value for key, value in NEEDS[process].items() if key != name}

    with pytest.raises(SettingError, match=f"^{name} is not set"), built(process, rest):
        pass


@pytest.mark.parametrize(("command", "name"), [("migrate", "Q2O_DATABASE_URL"), ("deploy", "Q2O_ENGINE_URL")])
def test_a_tool_asks_only_for_the_service_that_it_changes(command: str, name: str) -> None:
    ended = CliRunner().invoke(app, [command], env=dict.fromkeys(["Q2O_DATABASE_URL", "Q2O_ENGINE_URL"], ""))

    assert ended.exit_code == 2
    assert f"q2o: {name} is not set" in ended.stderr
    assert {"Q2O_DATABASE_URL", "Q2O_ENGINE_URL"} & set(re.findall(r"Q2O_\w+", ended.stderr)) == {name}


def test_a_setting_has_a_default_only_when_the_default_is_safe() -> None:
    settings = Settings({})

    assert (settings.http_host, settings.http_port, settings.health_port) == ("127.0.0.1", 8080, None)
    assert settings.lock_duration == timedelta(seconds=20)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", "http"),
        ("http_port", "-1"),
        ("health_port", "nan"),
        ("lock_duration_seconds", "20s"),
        ("start_safe_interval_seconds", "inf"),
    ],
)
def test_a_setting_that_is_not_a_number_is_named_with_its_value(name: str, value: str) -> None:
    settings = Settings({}).having(**{name: value})

    with pytest.raises(SettingError, match=f"Q2O_{name.upper()}={value} is not a (number|port)"):
        getattr(settings, name.removesuffix("_seconds"))


@pytest.mark.parametrize("value", ["acme", "", "*"])
def test_a_tenant_that_is_no_uuid_is_named_with_its_value(value: str) -> None:
    """An empty one would open a process to every tenant."""
    with pytest.raises(SettingError, match=re.escape(f"Q2O_ONLY_TENANT={value} is not a UUID")):
        _ = Settings({"Q2O_ONLY_TENANT": value}).only_tenant


def test_a_token_secret_that_is_too_short_is_refused() -> None:
    short = {**NEEDS["http"], "Q2O_JWT_ISSUER": "", "Q2O_JWT_SECRET": "guessable"}

    with pytest.raises(SettingError, match="Q2O_JWT_SECRET is not long enough"), built("http", short):
        pass


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"Q2O_JWT_SECRET": "x" * 32}, "Q2O_JWT_SECRET and Q2O_JWT_ISSUER are both set"),
        ({"Q2O_JWT_LEEWAY_SECONDS": "301"}, "Q2O_JWT_LEEWAY_SECONDS=301 is not a number from 0 to 300"),
        ({"Q2O_JWT_ROLE_NAMES": "sales"}, "Q2O_JWT_ROLE_NAMES is not a list of theirs=ours"),
        ({"Q2O_JWT_ROLE_NAMES": "sales=boss"}, "Q2O_JWT_ROLE_NAMES names no roles of ours: boss; there are salesAgent"),
    ],
)
def test_a_wrong_rule_for_tokens_is_named(changes: Mapping[str, str], fault: str) -> None:
    with pytest.raises(SettingError, match=f"^{fault}"), built("http", {**NEEDS["http"], **changes}):
        pass


def test_a_database_address_that_cannot_be_read_is_named_without_its_text() -> None:
    wrong = DATABASE | KAFKA | {"Q2O_DATABASE_URL": "db.example password=hidden"}

    with pytest.raises(SettingError, match="Q2O_DATABASE_URL is not a database address") as refused, built("relay", wrong):
        pass
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("between", [",", ", ", " ", "\n"])
def test_several_callback_secrets_hold_during_a_rotation(between: str) -> None:
    new, old = new_secret(), new_secret()

    assert Settings({"Q2O_CALLBACK_SECRET": f"{new}{between}{old}"}).callback_secrets.read() == (new, old)


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        ("whsec_c2hvcnQ=", "number 1 of 1: .* 24 to 64 bytes"),
        ("whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz,guessable!", "number 2 of 2: .* base64"),
        (",", "it names no secret"),
    ],
)
def test_an_unusable_callback_secret_is_refused_by_its_position(secrets: str, reason: str) -> None:
    with pytest.raises(SettingError, match=f"Q2O_CALLBACK_SECRET cannot be used: {reason}") as refused:
        _ = Settings({"Q2O_CALLBACK_SECRET": secrets}).callback_secrets

    assert not any(secret in str(refused.value) for secret in secrets.split(",") if secret)


def test_topics_are_a_list_and_an_empty_list_means_all() -> None:
    assert Settings({}).topics == frozenset()
    assert Settings({"Q2O_TOPICS": "order.decompose,order.evaluate"}).topics == {"order.decompose", "order.evaluate"}


def test_settings_do_not_show_secrets_when_they_are_printed() -> None:
    assert "secret" not in repr(Settings(ENGINE))


def common_address() -> str:
    return "postgresql+psycopg://q2o@db/q2o"


def own_address(process: str) -> str:
    return f"postgresql+psycopg://{process}@db/q2o"


class TestAddressesOfOneProcess:
    COMMON: Final = {"Q2O_DATABASE_URL": common_address(), "Q2O_RELAY_DATABASE_URL": own_address("relay")}

    def test_the_own_address_of_a_process_goes_before_the_common_one(self) -> None:
        settings = Settings(self.COMMON)

        assert [reveal(settings.of(process).database_url) for process in ("relay", "inbox")] == [
            own_address("relay"),
            common_address(),
        ]

    def test_the_own_address_may_stand_in_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "address").write_text(own_address("inbox"))
        settings = Settings({**self.COMMON, "Q2O_INBOX_DATABASE_URL_FILE": str(tmp_path / "address")})

        assert reveal(settings.of("inbox").database_url) == own_address("inbox")

    def test_the_own_address_goes_before_a_common_file(self, tmp_path: Path) -> None:
        (tmp_path / "address").write_text(common_address())
        given = {"Q2O_RELAY_DATABASE_URL": own_address("relay"), "Q2O_DATABASE_URL_FILE": str(tmp_path / "address")}

        assert reveal(Settings(given).of("relay").database_url) == own_address("relay")

    def test_a_migration_makes_the_logins_of_the_own_addresses(self) -> None:
        given = {
            "Q2O_DATABASE_URL": "postgresql+psycopg://q2o@db/q2o",
            "Q2O_RELAY_DATABASE_URL": "postgresql+psycopg://relay:secret@db/q2o",
        }

        assert logins_of(Settings(given)) == {"relay": Login("relay", "secret")}
        assert "secret" not in repr(logins_of(Settings(given)))

    def test_nobody_logs_in_as_a_group(self) -> None:
        with pytest.raises(
            SettingError, match=r"^Q2O_RELAY_DATABASE_URL names the group q2o_relay, with which nobody logs in: name a login$"
        ):
            logins_of(Settings({"Q2O_RELAY_DATABASE_URL": "postgresql+psycopg://q2o_relay:secret@db/q2o"}))

    def test_an_own_address_that_is_none_is_named(self) -> None:
        with pytest.raises(SettingError, match=r"^Q2O_RELAY_DATABASE_URL is not a database address"):
            logins_of(Settings({"Q2O_RELAY_DATABASE_URL": "db.example"}))


class TestSecretsInFiles:
    def test_callback_secrets_in_a_file_are_renewed_together_and_only_by_usable_ones(self, tmp_path: Path) -> None:
        old, new, file = new_secret(), new_secret(), tmp_path / "secrets"
        file.write_text(old)
        secrets = Settings({"Q2O_CALLBACK_SECRET_FILE": str(file)}).callback_secrets

        file.write_text(f"{new}\n{old}\n")
        assert secrets.read() == (new, old)

        file.write_text(f"{new}\nguessable")
        with capture_logs() as logs:
            assert [secrets.read(), secrets.read()] == [(new, old)] * 2
        assert [log["reason"] for log in logs if log["event"] == "callback_secret_unusable"] == [
            "number 2 of 2: a callback secret must be base64, with or without whsec_ in front: " + HOW_TO_MAKE
        ]

    def test_a_secret_may_stand_in_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("from a file\n")

        assert reveal(Settings({"Q2O_ENGINE_PASSWORD_FILE": str(file)}).engine_password) == "from a file"

    @pytest.mark.parametrize("name", SECRETS)
    def test_every_secret_is_refused_when_it_is_given_twice(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "secret").write_text("x")
        settings = Settings({}).having(**{name: "x", f"{name}_file": str(tmp_path / "secret")})

        with pytest.raises(SettingError, match=f"Q2O_{name.upper()} and Q2O_{name.upper()}_FILE are both set"):
            settings.environment.find_secret(name)

    def test_the_local_suite_leaves_files_that_are_no_secrets_alone(self) -> None:
        given = {"Q2O_ENGINE_KEY_FILE": "/a.key", "Q2O_KAFKA_CA_FILE": "/ca.pem"}

        assert with_files_read(given) == given

    @pytest.mark.parametrize("content", [None, "", "\n", b"\xff"])
    def test_a_file_without_a_secret_is_named(self, tmp_path: Path, content: str | bytes | None) -> None:
        file = tmp_path / "password"
        if content is not None:
            file.write_bytes(content if isinstance(content, bytes) else content.encode())

        with pytest.raises(SettingError, match=f"Q2O_ENGINE_PASSWORD_FILE={file} cannot be read") as refused:
            _ = Settings({"Q2O_ENGINE_PASSWORD_FILE": str(file)}).engine_password
        assert len(str(refused.value).splitlines()) == 1

    def test_the_local_suite_reads_its_secrets_from_files_once(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("of-a-file\n")
        given = {"Q2O_PROVIDER_TOKEN_FILE": str(tmp_path / "token"), "Q2O_KAFKA": "a:1", "HOME_FILE": "kept"}

        assert with_files_read(given) == {"Q2O_PROVIDER_TOKEN": "of-a-file", "Q2O_KAFKA": "a:1", "HOME_FILE": "kept"}


def test_what_a_process_has_of_its_own_leaves_no_empty_variable_behind() -> None:
    own = of_process("tasks", {"Q2O_ENGINE_USER": "common", "Q2O_TASKS_ENGINE_USER": "own", "Q2O_ENGINE_PASSWORD_FILE": "common"})

    assert own["Q2O_ENGINE_USER"] == "own"
    assert "Q2O_ENGINE_USER_FILE" not in own
    assert own["Q2O_ENGINE_PASSWORD_FILE"] == "common"
