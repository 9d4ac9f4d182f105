"""A line that asks a person to correct a setting names the variable from which its value came."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.support.answering import Reply, answering
from tests.support.ports import free_port_that_refuses
from workers import suite
from workers.cli import app
from workers.runtime import engine_login
from workers.runtime.callback_secrets import CallbackSecrets, secret_bytes
from workers.runtime.database_fitness import DatabaseUnreachableError, require_fit
from workers.runtime.engine import EngineLockedOutError, EngineUntrustedError
from workers.runtime.health import serve_health
from workers.runtime.listening import remedy_of
from workers.runtime.settings import SettingError, Settings
from workers.sandbox.server import ServerStartError, _listen
from workers.start_checks import require_settings

NO_ADDRESS_OF_OURS = "192.0.2.1"  # RFC 5737: no machine has it
LOGIN = {"ENGINE_USER": "worker", "ENGINE_PASSWORD": "wrong"}


@pytest.fixture(autouse=True)
def no_settings_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("Q2O_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("process", "names", "blamed"),
    [
        ("tasks", ("Q2O_DATABASE_URL",), "Q2O_DATABASE_URL"),
        ("tasks", ("Q2O_DATABASE_URL", "Q2O_TASKS_DATABASE_URL"), "Q2O_TASKS_DATABASE_URL"),
        ("tasks", ("Q2O_DATABASE_URL", "Q2O_RELAY_DATABASE_URL"), "Q2O_DATABASE_URL"),
        ("audit", ("Q2O_AUDIT_DATABASE_URL",), "Q2O_AUDIT_DATABASE_URL"),
        ("tasks", ("Q2O_TASKS_DATABASE_URL_FILE",), "Q2O_TASKS_DATABASE_URL_FILE"),
    ],
)
def test_a_database_that_cannot_be_used_names_the_variable_of_its_address(
    process: str, names: tuple[str, ...], blamed: str, tmp_path: Path
) -> None:
    with free_port_that_refuses() as port:
        address = f"postgresql+psycopg://q2o@127.0.0.1:{port}/q2o"
        (tmp_path / "address").write_text(address)
        given = {name: str(tmp_path / "address") if name.endswith("_FILE") else address for name in names}

        with pytest.raises(DatabaseUnreachableError, match=rf"Check {blamed}$"):
            require_fit(suite.connect(Settings(given).of(process), process))


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [
        (("status",), "Q2O_AUDIT_DATABASE_URL"),
        (("explain", "SO-1"), "Q2O_AUDIT_DATABASE_URL"),
        (("audit",), "Q2O_AUDIT_DATABASE_URL"),
        (("rebuild", "order_search"), "Q2O_RECONCILE_DATABASE_URL"),
        (("retain",), "Q2O_RETAIN_DATABASE_URL"),
        (("migrate",), "Q2O_DATABASE_URL"),
    ],
)
def test_a_command_names_the_variable_of_its_own_process(arguments: tuple[str, ...], variable: str) -> None:
    with free_port_that_refuses() as port:
        address = f"postgresql+psycopg://q2o@127.0.0.1:{port}/q2o"

        ended = CliRunner().invoke(app, arguments, env={variable: address})

    assert ended.exit_code == 2
    [line] = ended.stderr.splitlines()
    assert line.endswith(f"Check {variable}")


def test_a_malformed_address_is_named_by_its_own_variable() -> None:
    ended = CliRunner().invoke(app, ["rebuild", "order_search"], env={"Q2O_RECONCILE_DATABASE_URL": "db"})

    assert ended.stderr.startswith("q2o: Q2O_RECONCILE_DATABASE_URL is not a database address")


@pytest.mark.parametrize(
    ("own", "blamed"),
    [
        ({}, "Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD"),
        ({"Q2O_DISPATCH_ENGINE_PASSWORD": "wrong"}, "Q2O_ENGINE_USER and Q2O_DISPATCH_ENGINE_PASSWORD"),
        (
            {"Q2O_DISPATCH_ENGINE_USER": "q2o-dispatch", "Q2O_DISPATCH_ENGINE_PASSWORD": "wrong"},
            "Q2O_DISPATCH_ENGINE_USER and Q2O_DISPATCH_ENGINE_PASSWORD",
        ),
    ],
)
def test_a_refused_login_names_the_variables_of_the_login(
    own: Mapping[str, str], blamed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(lambda _: Reply(status=401)) as url:
        given = {"Q2O_ENGINE_URL": url, **{f"Q2O_{name}": value for name, value in LOGIN.items()}, **own}
        with closing(suite.engine_of(Settings(given).of("dispatch"))) as engine:
            with pytest.raises(EngineLockedOutError, match=f"or correct {blamed}$"):
                engine.may_deploy()
            monkeypatch.setattr(engine_login, "LONGEST_LOCK", timedelta(0))
            monkeypatch.setattr(engine_login, "ROOM", timedelta(0))
            with pytest.raises(EngineUntrustedError, match=f"correct {blamed}$"):
                engine.may_deploy()


@pytest.mark.parametrize("ports", [{"HTTP_PORT": "0"}, {"HTTP_PORT": "0", "HEALTH_PORT": "18998"}])
@pytest.mark.parametrize("host", [NO_ADDRESS_OF_OURS, "nowhere.invalid"])
def test_an_address_that_the_machine_does_not_have_is_no_fault_of_the_port(host: str, ports: Mapping[str, str]) -> None:
    given = {f"Q2O_{name}": value for name, value in {**ports, "HTTP_HOST": host}.items()}
    with pytest.raises(SettingError) as refused:
        require_settings("http", given, opens=("http_port", "health_port"))

    lines = [line for line in str(refused.value).splitlines() if "_PORT" in line or "_HOST" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"Q2O_HTTP_HOST={host} cannot be used (")
    assert lines[0].endswith("): set Q2O_HTTP_HOST to an address of this machine, such as 127.0.0.1")


def test_every_listener_says_that_the_host_is_wrong() -> None:
    with pytest.raises(SettingError, match="set Q2O_HTTP_HOST to an address of this machine"):
        serve_health(NO_ADDRESS_OF_OURS, 0, list)
    with pytest.raises(ServerStartError, match="set the host to an address of this machine"):
        _listen(NO_ADDRESS_OF_OURS, 0)


def test_a_port_that_needs_a_right_has_words_of_its_own() -> None:
    refused = PermissionError(errno.EACCES, "Permission denied")

    assert remedy_of(refused, "HOST", "PORT") == (
        "set PORT to 1024 or above, because a lower port needs the right CAP_NET_BIND_SERVICE"
    )


@pytest.mark.parametrize("secret", ["abc", "whsec_c2hvcnQ=", "no base64!", ","])
def test_a_callback_secret_that_cannot_be_used_says_how_a_shell_makes_one(secret: str) -> None:
    with pytest.raises(SettingError, match="make one with: ") as refused:
        CallbackSecrets(secret)

    command = re.split("make one with: ", str(refused.value))[1]
    made = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout.strip()
    assert made.startswith("whsec_")
    assert len(secret_bytes(made)) == 32
    assert CallbackSecrets(made).read() == (made,)
