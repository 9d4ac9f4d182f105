"""Local stacks start, are killed, and end; the next start on the same data ends the processes that were left."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import psutil
import psycopg
import pytest
import requests

from tests.support import asking
from tests.support.local_stacks import holder, plain, processes_of
from tests.support.models import TENANT, flow, model, new_name
from tests.support.waiting import eventually
from workers.local.errors import StackError
from workers.local.stack import LocalStack
from workers.runtime.engine import Engine
from workers.runtime.kafka import is_reachable
from workers.runtime.kafka_access import KafkaAccess


def test_a_database_keeps_its_rows_and_its_address_from_run_to_run(tmp_path: Path) -> None:
    with (
        LocalStack(tmp_path, {"postgres"}, {}) as first,
        psycopg.connect(plain(first.environment["Q2O_DATABASE_URL"])) as connection,
    ):
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")

    with (
        LocalStack(tmp_path, {"postgres"}, {}) as second,
        psycopg.connect(plain(second.environment["Q2O_DATABASE_URL"])) as connection,
    ):
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)

    assert first.environment == second.environment
    assert processes_of(tmp_path) == []


def test_a_second_stack_on_the_same_directory_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    with LocalStack(tmp_path, {"postgres"}, {}) as first:
        with (
            pytest.raises(StackError, match=f"already running on .* \\(process {os.getpid()}\\)"),
            LocalStack(tmp_path, {"postgres"}, {}),
        ):
            pass
        assert first.postgres.running()


def test_credentials_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    with LocalStack(tmp_path, set(), {}):
        assert (tmp_path / "credentials.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_ends_every_part(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with holder(tmp_path, "postgres") as (process, _):
        process.send_signal(number)
        assert process.wait(30) == code

    assert processes_of(tmp_path) == []
    assert "database system is shut down" in (tmp_path / "logs" / "postgres.log").read_text()


def test_the_processes_of_a_killed_run_are_ended_although_the_next_one_needs_fewer_parts(tmp_path: Path) -> None:
    with holder(tmp_path, "postgres") as (process, left):
        process.kill()
        process.wait(30)

        with LocalStack(tmp_path, set(), {}):
            assert not left["postgres"].is_running()


def test_a_process_of_another_program_is_never_ended_although_its_command_names_the_directory(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input()", str(tmp_path / "postgres")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as stranger:
        with LocalStack(tmp_path, {"postgres"}, {}):
            assert stranger.poll() is None
        stranger.kill()


# The first of these tests starts two whole stacks before its own act.
of_succession = pytest.mark.timeout(400)


@dataclass(frozen=True, slots=True)
class Succession:
    """A stack that began on the data of a killed run, and the processes that the killed run left. Tests may break the stack."""

    stack: LocalStack
    left: Mapping[str, psutil.Process]


@pytest.fixture(scope="module")
def succession(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Succession]:
    """Kill the process that runs a whole stack, and start the next one on the same data, its engine as behind a proxy that ends TLS."""
    directory = tmp_path_factory.mktemp("succession")
    with holder(directory, "postgres,kafka,engine") as (process, left):
        process.kill()
        process.wait(30)
        assert all(part.is_running() for part in left.values())
        with patch.dict(os.environ, {"Q2O_ENGINE_PROFILE": "behind-tls"}), LocalStack(directory, environment={}) as stack:
            yield Succession(stack, left)
    assert processes_of(directory) == []


def login(stack: LocalStack) -> bool:
    """Whether the engine accepts its administrator. Its tables keep the password, so that another one would be refused."""
    return requests.get(f"{stack.engine.url}/version", auth=(stack.engine.user, stack.engine.password), timeout=5).ok


@pytest.mark.stack
@of_succession
def test_the_processes_of_a_killed_run_are_ended_by_the_next_one_on_the_same_data(succession: Succession) -> None:
    assert not any(part.is_running() for part in succession.left.values())


@pytest.mark.stack
@of_succession
def test_the_administrator_of_a_killed_run_logs_in_to_the_next_one_on_the_same_data(succession: Succession) -> None:
    eventually(lambda: login(succession.stack), "login")


@pytest.mark.stack
@of_succession
def test_an_engine_behind_tls_has_browsers_come_back_by_https_with_cookies_that_travel_over_nothing_else(
    succession: Succession,
) -> None:
    page = eventually(lambda: welcome_page(succession.stack), "the web applications respond")

    assert page is not None
    cookies = {cookie.partition("=")[0]: cookie for cookie in page.headers.get_list("Set-Cookie")}
    assert set(cookies) == {"JSESSIONID", "XSRF-TOKEN"}
    assert all("Secure" in re.split("; ?", cookie) for cookie in cookies.values())
    assert page.headers["Strict-Transport-Security"] == "max-age=31536000"


def welcome_page(stack: LocalStack) -> httpx.Response | None:
    """Ask as a proxy that ends TLS does; None while the engine is not up again after another test."""
    try:
        page = asking.get(f"{stack.engine.webapps}/app/welcome/default/", headers={"X-Forwarded-Proto": "https"})
    except httpx.TransportError:
        return None
    return page if page.is_success else None


@pytest.mark.stack
@of_succession
@pytest.mark.parametrize("part", ["postgres", "kafka", "engine"])
def test_a_killed_part_starts_again_on_the_same_address(succession: Succession, part: str) -> None:
    stack = succession.stack
    handle = {"postgres": stack.postgres, "kafka": stack.kafka, "engine": stack.engine}[part]
    before = handle.pid

    handle.kill()
    assert not handle.running()
    handle.start()

    assert handle.pid != before
    assert is_reachable(KafkaAccess(bootstrap=stack.environment["Q2O_KAFKA"]), timedelta(seconds=10))
    # The engine's connection pool finds the new server by itself.
    eventually(lambda: login(stack), "login")


@pytest.mark.stack
@of_succession
def test_an_engine_soon_takes_the_jobs_that_a_killed_one_had_taken(succession: Succession, tmp_path: Path) -> None:
    """Kills: a lock of a minute, for which an order stands still after each crash of the engine."""
    stack, file = succession.stack, tmp_path / "continues.bpmn"
    file.write_text(with_a_job("continues"))
    with closing(Engine(stack.engine.url, stack.engine.user, stack.engine.password)) as engine:
        engine.deploy(TENANT, "continues", [file])
        with tables_of_the_engine(stack) as gate:
            gate.execute("LOCK TABLE act_ru_ext_task IN SHARE MODE")  # the job of the instance waits here
            instance_id = engine.start_process(TENANT, "continues", new_name("business"), {})
            eventually(lambda: gate.execute("SELECT FROM act_ru_job WHERE lock_owner_ IS NOT NULL").fetchall(), "the job is taken")
            stack.engine.kill()
        stack.engine.start()

        eventually(lambda: engine.rows("/external-task", processInstanceId=instance_id), "the job is done", patience=30)


def with_a_job(key: str) -> str:
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/>',
        '<bpmn:serviceTask id="work" camunda:type="external" camunda:topic="nobody" camunda:asyncBefore="true"/>',
        flow("start", "work"),
        flow("work", "done"),
    )


def tables_of_the_engine(stack: LocalStack) -> psycopg.Connection[tuple[Any, ...]]:
    with stack.postgres._connect() as server:
        return psycopg.connect(server.info.dsn, password=server.info.password, dbname="camunda")


def test_a_part_listens_on_its_fixed_port(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with LocalStack(tmp_path, {"postgres"}, {"Q2O_DATABASE_PORT": str(port)}) as stack:
        assert urlsplit(stack.environment["Q2O_DATABASE_URL"]).port == port
