"""A running local stack: the parts that it starts, who may use them, and given services, which it uses and does not start."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import requests
from sqlalchemy import Engine, text
from sqlalchemy.engine import make_url

from domain.auditing.sessions import NOTHING_HELD_OPEN
from tests.support.database import acting
from tests.support.local_stacks import plain, processes_of, refused
from workers.local.errors import StackError
from workers.local.stack import LocalStack
from workers.runtime.kafka import is_reachable
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings


def test_the_engines_database_is_closed_to_the_business_role(database: str) -> None:
    address = make_url(database).set(database="camunda")

    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(plain(address.render_as_string(hide_password=False)))


def test_the_audit_sees_the_sessions_of_every_process(migrated: Engine) -> None:
    with acting(migrated, "audit").connect() as connection:
        assert connection.execute(text(NOTHING_HELD_OPEN.blind)).all() == []


@pytest.mark.stack
def test_a_process_needs_only_the_environment_of_the_stack(stack: LocalStack) -> None:
    settings = Settings({**stack.environment, "Q2O_PROVIDER_URL": "http://127.0.0.1:1", "Q2O_PROVIDER_TOKEN": "sandbox"})

    assert settings.engine_url.endswith("/engine-rest")
    assert settings.callback_secrets.read()[0].startswith("whsec_")
    with psycopg.connect(plain(reveal(settings.database_url))) as connection:
        assert connection.info.dbname == "q2o"
    assert is_reachable(settings.kafka, timedelta(seconds=10))


@pytest.mark.stack
def test_given_addresses_are_used_and_nothing_is_started(stack: LocalStack, tmp_path: Path) -> None:
    given = {name: value for name, value in stack.environment.items() if name != "Q2O_DATA_DIR"}

    with LocalStack(tmp_path, environment=given) as second:
        assert processes_of(tmp_path) == []
        assert second.environment == given | {"Q2O_DATA_DIR": str(tmp_path)}
        with pytest.raises(StackError, match="this stack did not start engine"):
            _ = second.engine


@pytest.mark.stack
def test_requests_to_this_machine_do_not_use_the_proxy_of_the_network(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    with LocalStack(tmp_path, {"engine"}, stack.environment) as second:
        assert second.environment["Q2O_ENGINE_URL"] == stack.environment["Q2O_ENGINE_URL"]


@pytest.mark.stack
def test_the_rest_api_of_the_engine_needs_a_password(stack: LocalStack) -> None:
    url = stack.environment["Q2O_ENGINE_URL"]

    assert requests.get(f"{url}/task", timeout=5).status_code == 401
    # Not with the administrator's name: after a wrong password the engine refuses the right one for seconds, in every other test too.
    assert requests.get(f"{url}/task", auth=("stranger", "wrong"), timeout=5).status_code == 401


@pytest.mark.stack
@pytest.mark.parametrize("webapp", ["tasklist", "cockpit"])
def test_the_administrator_logs_in_to_the_web_applications(stack: LocalStack, webapp: str) -> None:
    browser = requests.Session()
    assert browser.get(f"{stack.engine.webapps}/app/{webapp}/default/", timeout=10).ok

    answer = browser.post(
        f"{stack.engine.webapps}/api/admin/auth/user/default/login/{webapp}",
        data={"username": stack.engine.user, "password": stack.engine.password},
        headers={"X-XSRF-TOKEN": browser.cookies["XSRF-TOKEN"]},
        timeout=10,
    )

    assert webapp in answer.json()["authorizedApps"]


@pytest.mark.stack
def test_the_engine_refuses_a_weak_password(stack: LocalStack) -> None:
    answer = requests.post(
        f"{stack.engine.url}/user/create",
        json={"profile": {"id": "weak", "firstName": "W", "lastName": "K"}, "credentials": {"password": "demo"}},
        auth=(stack.engine.user, stack.engine.password),
        timeout=10,
    )

    assert answer.json()["message"] == "Password does not match policy"


@pytest.mark.stack
def test_a_wrong_engine_password_is_named(stack: LocalStack, tmp_path: Path) -> None:
    given = stack.environment | {"Q2O_ENGINE_USER": "stranger", "Q2O_ENGINE_PASSWORD": "wrong"}

    message = refused(LocalStack(tmp_path, {"engine"}, given))

    assert "refuses the password of user stranger: set Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD" in message
    assert "wrong" not in message


@pytest.mark.stack
def test_a_start_that_fails_halfway_leaves_no_process_running(stack: LocalStack, tmp_path: Path) -> None:
    """The engine starts last and fails, when PostgreSQL and Kafka are up: it may not create tables in this database."""
    address = make_url(stack.environment["Q2O_DATABASE_URL"])
    with psycopg.connect(plain(stack.environment["Q2O_DATABASE_URL"]), autocommit=True) as connection:
        connection.execute("CREATE DATABASE locked")
    locked = address.set(database="locked").render_as_string(hide_password=False)
    with psycopg.connect(plain(locked)) as connection:
        connection.execute("DROP SCHEMA public")

    message = refused(LocalStack(tmp_path, environment={"Q2O_ENGINE_DATABASE_URL": locked}))

    assert "engine stopped while starting" in message
    assert str(tmp_path / "logs" / "engine.log") in message
