"""A command checks all its settings before it connects to anything: one line for each problem, exit code 2."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.support.settings_page import PAGE, page
from tests.unit.test_settings import DATABASE, ENGINE, KAFKA, NEEDS, PROVIDER
from workers import needs, suite
from workers.cli import app
from workers.runtime.setting_table import COMMANDS, SETTINGS
from workers.runtime.settings import SettingError
from workers.start_checks import require_settings

TASKS = NEEDS["tasks"]
SECRET = "not-to-be-shown"


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("Q2O_")]:
        monkeypatch.delenv(name)


def q2o(*arguments: str, variables: Mapping[str, str]) -> Result:
    return CliRunner().invoke(app, list(arguments), env=dict(variables))


def refused(*arguments: str, variables: Mapping[str, str]) -> list[str]:
    """Run a command that must be refused before it connects; returns its lines."""
    ended = q2o(*arguments, variables=variables)
    assert (ended.exit_code, ended.stdout) == (2, ""), ended.exception
    lines = ended.stderr.splitlines()
    assert all(line.startswith("q2o: ") for line in lines)
    assert SECRET not in ended.stderr
    return [line.removeprefix("q2o: ") for line in lines]


def problem(command: str, **changes: str) -> str:
    """The one problem of a command whose settings are right but for these changes."""
    with pytest.raises(SettingError) as error:
        require_settings(command, {**NEEDS[command]} | {f"Q2O_{name.upper()}": value for name, value in changes.items()})
    (line,) = str(error.value).splitlines()
    assert SECRET not in line
    return line


@pytest.mark.parametrize("command", sorted(suite.PROCESSES))
def test_right_settings_pass(command: str) -> None:
    require_settings(command, NEEDS[command])


@pytest.mark.parametrize("command", sorted(suite.PROCESSES))
def test_all_missing_settings_are_named_at_once(command: str) -> None:
    named = {line.split()[0] for line in refused(command, variables={})}

    assert named == (NEEDS[command].keys() - {"Q2O_JWT_AUDIENCE"})  # which is needed with an issuer only


@pytest.mark.parametrize(
    ("variable", "closest"),
    [
        ("Q2O_DATABASE_ULR", "Q2O_DATABASE_URL"),
        ("Q2O_RELAY_DATABSE_URL", "Q2O_RELAY_DATABASE_URL"),
        ("Q2O_TASKS_ENGINE_PASWORD_FILE", "Q2O_TASKS_ENGINE_PASSWORD_FILE"),
        ("Q2O_LOCK_DURATION_SECOND", "Q2O_LOCK_DURATION_SECONDS"),
    ],
)
@pytest.mark.parametrize("command", ["tasks", "migrate", "up"])
def test_a_misspelt_variable_is_refused_with_the_closest_name(command: str, variable: str, closest: str) -> None:
    assert f"{variable} is no setting: did you mean {closest}? Correct it, or unset it" in refused(
        command, variables={**TASKS, variable: "1"}
    )


def test_a_variable_that_resembles_none_is_refused_too() -> None:
    assert problem("relay", zzzzzzzzzzzzzzzzzzzzzzzz="1") == "Q2O_ZZZZZZZZZZZZZZZZZZZZZZZZ is no setting: unset it"


def test_an_unknown_topic_is_refused_with_the_closest_name() -> None:
    (line,) = refused("tasks", "--topic", "order.decompos", variables=TASKS)

    assert line.startswith("there is no topic 'order.decompos': did you mean order.decompose?")


def test_a_topic_that_resembles_none_is_refused_with_a_list_of_all() -> None:
    (line,) = refused("tasks", "--topic", "nope.topic", variables=TASKS)

    assert "did you mean" not in line
    assert line.startswith("there is no topic 'nope.topic': there are ")
    assert "order.decompose, " in line


@pytest.mark.parametrize("name", ["nope", "xyz_url_zz", "ab"])
def test_a_variable_is_not_likened_to_another_for_its_prefix(name: str) -> None:
    assert problem("relay", **{name: "1"}) == f"Q2O_{name.upper()} is no setting: unset it"


def test_every_unknown_topic_is_named() -> None:
    assert len(refused("tasks", "--topic", "nope", "--topic", "nor.this", "--topic", "order.decompose", variables=TASKS)) == 2


@pytest.mark.parametrize(
    ("command", "name", "value"),
    [
        ("tasks", "lock_duration_seconds", "0"),
        ("tasks", "lock_duration_seconds", "2.9"),
        ("tasks", "lock_duration_seconds", "1_0"),
        ("tasks", "lock_duration_seconds", " 20 "),
        ("tasks", "attempt_stale_after_seconds", "0"),
        ("reconcile", "start_safe_interval_seconds", "0"),
        ("http", "http_burst", "1.5"),
        ("http", "http_head_seconds", "0"),
        ("http", "http_port", "65536"),
        ("relay", "health_port", "-1"),
        ("relay", "health_port", "80.0"),
        ("relay", "http_host", "a..b"),
        ("tasks", "engine_url", "engine.example/engine-rest"),
        ("tasks", "engine_url", "https://engine.example:port/engine-rest"),
        ("tasks", "engine_url", f"https://admin:{SECRET}@engine.example/engine-rest"),
        ("tasks", "provider_url", "ftp://provider.example"),
        ("tasks", "provider_url", "https://"),
        ("tasks", "worker_id", "pod"),
        ("relay", "kafka", "broker"),
        ("relay", "kafka", "broker:0,other:9092"),
        ("http", "jwt_issuer", "login.example"),
        ("http", "jwks", "https:// /keys"),
        ("inbox", "only_tenant", "acme"),
        ("http", "mode", "prod"),
    ],
)
def test_a_value_that_a_setting_cannot_have_is_named_with_its_range(command: str, name: str, value: str) -> None:
    line = problem(command, **{name: value})

    assert line.startswith(f"Q2O_{name.upper()}=")
    assert f"is not {SETTINGS[name].kind.wanted}" in line


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql+psycopg://q2o:{SECRET}@db:port/q2o",
        f"postgresql+psycopg://q2o:{SECRET}@db:65536/q2o",
        f"mysql://q2o:{SECRET}@db/q2o",
        f"postgresql://q2o:{SECRET}@db/q2o",
        SECRET,
    ],
)
def test_a_database_address_that_cannot_be_used_is_named_without_its_text(address: str) -> None:
    assert problem("relay", database_url=address).startswith("Q2O_DATABASE_URL is not a database address")


def test_a_wrong_address_of_one_process_is_named_by_its_own_variable() -> None:
    assert problem("relay", relay_database_url="db").startswith("Q2O_RELAY_DATABASE_URL is not a database address")


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", f"whsec_{SECRET}!"])
def test_a_callback_secret_that_signs_nothing_is_refused_at_the_start(secret: str) -> None:
    assert problem("http", callback_secret=secret).startswith("Q2O_CALLBACK_SECRET cannot be used: number 1 of 1: ")


@pytest.mark.parametrize(
    ("command", "changes", "words"),
    [
        (
            "tasks",
            {"lock_duration_seconds": "30"},
            "Q2O_ATTEMPT_STALE_AFTER_SECONDS=20 is shorter than Q2O_LOCK_DURATION_SECONDS=30",
        ),
        ("tasks", {"engine_ca_file": "/ca.pem"}, "Q2O_ENGINE_CA_FILE is set, but Q2O_ENGINE_URL="),
        ("tasks", {"provider_key_file": "/key"}, "Q2O_PROVIDER_KEY_FILE is set, but Q2O_PROVIDER_URL="),
        ("relay", {"kafka_user": "relay"}, "Q2O_KAFKA_USER is set, but "),
        ("http", {"jwt_secret": "s" * 32}, "Q2O_JWT_SECRET and Q2O_JWT_ISSUER are both set"),
        ("http", {"jwt_secret": "s"}, "Q2O_JWT_SECRET is not long enough"),
        ("http", {"jwt_role_names": "sales=boss"}, "Q2O_JWT_ROLE_NAMES names no roles of ours"),
        ("relay", {"database_url_file": "/nothing"}, "Q2O_DATABASE_URL and Q2O_DATABASE_URL_FILE are both set"),
        ("tasks", {"engine_password": "", "engine_password_file": "/nothing"}, "Q2O_ENGINE_PASSWORD_FILE=/nothing cannot be read"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(command: str, changes: Mapping[str, str], words: str) -> None:
    assert problem(command, **changes).startswith(words)


def test_all_problems_of_a_process_are_named_together() -> None:
    wrong = {
        **DATABASE,
        **ENGINE,
        **PROVIDER,
        "Q2O_ENGINE_URL": "engine",
        "Q2O_LOCK_DURATION_SECONDS": "0",
        "Q2O_PROVIDER_TOKEN": "",
        "Q2O_TOPIC": "order.decompose",
    }

    lines = refused("tasks", "--topic", "nope", variables=wrong)

    named = {line.split()[0].partition("=")[0] for line in lines}
    assert named == {"Q2O_ENGINE_URL", "Q2O_LOCK_DURATION_SECONDS", "Q2O_PROVIDER_TOKEN", "Q2O_TOPIC", "there"}
    assert len(lines) == 5


@pytest.mark.parametrize(
    ("command", "name"), [("http", "Q2O_HTTP_PORT"), ("http", "Q2O_HEALTH_PORT"), ("relay", "Q2O_HEALTH_PORT")]
)
def test_a_port_that_is_in_use_is_named_before_the_database_is_asked(command: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])

        (line,) = refused(command, variables={**NEEDS[command], "Q2O_HTTP_PORT": "0", name: port})

    assert line == f"{name}={port} cannot be opened on 127.0.0.1 (Address already in use): set {name} to a free port"


def test_two_parts_of_a_process_cannot_have_the_same_port() -> None:
    same = {"Q2O_HTTP_PORT": "18999", "Q2O_HEALTH_PORT": "18999"}

    assert refused("http", variables={**NEEDS["http"], **same}) == [
        "Q2O_HTTP_PORT and Q2O_HEALTH_PORT are both 18999: give each a port of its own"
    ]


@pytest.mark.parametrize("command", ["rebuild", "restart-instances"])
def test_a_command_with_the_login_of_a_process_needs_it(command: str) -> None:
    others = {} if command == "rebuild" else ENGINE

    assert "Q2O_DATABASE_URL is not set" in refused(command, *["order_search"][: command == "rebuild"], variables=others)[0]
    require_settings(command, {**others, "Q2O_RECONCILE_DATABASE_URL": DATABASE["Q2O_DATABASE_URL"]})


def test_a_process_judges_only_what_it_reads() -> None:
    require_settings("relay", {**DATABASE, **KAFKA, "Q2O_ENGINE_URL": "nonsense", "Q2O_LOCK_DURATION_SECONDS": "0"})


def test_the_suite_on_one_machine_judges_whatever_is_set() -> None:
    assert len(refused("up", variables={"Q2O_ENGINE_PORT": "x", "Q2O_LOCK_DURATION_SECONDS": "0"})) == 2


def test_brackets_in_a_line_are_shown() -> None:
    (line,) = refused("relay", variables={**DATABASE, "Q2O_KAFKA": "[/red]"})

    assert line.startswith("Q2O_KAFKA=[/red] is not a list")


def test_every_process_has_its_needs() -> None:
    assert needs.NEEDS.keys() == suite.PROCESSES.keys()
    assert {need for each in needs.NEEDS.values() for need in each} == needs.QUESTIONS.keys()


def test_the_defaults_of_settings_are_values_that_they_can_have() -> None:
    assert [name for name, each in SETTINGS.items() if each.default is not None and not each.kind.accepts(each.default)] == []


def test_only_commands_read_settings() -> None:
    assert {reader for each in SETTINGS.values() for reader in each.readers} == COMMANDS


def test_the_page_of_settings_is_up_to_date() -> None:
    now = Path(PAGE).read_text(encoding="utf-8")

    assert page(now) == now, "run `make settings`"
