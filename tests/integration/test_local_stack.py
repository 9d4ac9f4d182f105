"""The local stack: what it brings up, what it leaves behind, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest
import requests
from sqlalchemy.engine import make_url

from tests.support.services import local_stack
from tests.support.waiting import eventually
from workers.local.errors import StackError, check_space
from workers.local.jars import JarStore, default_jar_directory, read_lock
from workers.local.java import check_platform
from workers.local.kafka import reachable
from workers.local.source import CONFIGURATION
from workers.local.stack import LocalStack
from workers.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
KAFKA_LOCK = CONFIGURATION / "kafka" / "jgo.lock.toml"
# A process that brings parts up, tells their process ids and stays until it is ended.
HOLDER = """
import json, signal, sys, threading
from pathlib import Path
from workers.local.stack import LocalStack
# Tests in the background of a shell, or under nohup, have these ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
parts = sys.argv[2].split(",")
with LocalStack(Path(sys.argv[1]), parts, {}) as stack:
    print(json.dumps({part: getattr(stack, part).pid for part in parts}), flush=True)
    threading.Event().wait()
"""


def plain(database_url: str) -> str:
    """Write the address as PostgreSQL's own client takes it."""
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def processes_of(directory: Path) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and Path(command[0]).name in {"java", "postgres", "initdb"} and any(str(directory) in each for each in command):
            found.append(command)
    return found


@contextmanager
def holder(directory: Path, parts: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(directory), parts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


def refused(stack: LocalStack) -> str:
    """Start it, expect a refusal of one line, and see that nothing runs."""
    with pytest.raises(StackError) as caught, stack:
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert processes_of(stack.data_dir) == []
    return message


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def kafka_jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a jar directory of our own with Kafka's jars in it, as links: nothing is copied."""
    directory = tmp_path_factory.mktemp("jars")
    for jar in JarStore(default_jar_directory(os.environ)).provide(read_lock(KAFKA_LOCK)):
        (directory / jar.name).symlink_to(jar)
    return directory


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


def test_the_engines_database_is_closed_to_the_business_role(database: str) -> None:
    address = make_url(database).set(database="camunda")

    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(plain(address.render_as_string(hide_password=False)))


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
def test_a_signal_ends_everything_in_good_order(tmp_path: Path, number: signal.Signals, code: int) -> None:
    with holder(tmp_path, "postgres") as (process, _):
        process.send_signal(number)
        assert process.wait(30) == code

    assert processes_of(tmp_path) == []
    assert "database system is shut down" in (tmp_path / "logs" / "postgres.log").read_text()


@pytest.mark.stack
def test_what_a_killed_run_left_is_ended_by_the_next_one_on_the_same_data(tmp_path: Path) -> None:
    with holder(tmp_path, "postgres,kafka,engine") as (process, left):
        process.kill()
        process.wait(30)
        assert all(psutil.pid_exists(pid) for pid in left.values())

        with LocalStack(tmp_path, environment={}) as stack:
            assert not any(psutil.pid_exists(pid) for pid in left.values())
            # The engine's tables, and in them its administrator, outlived it: another password would be refused.
            assert requests.get(f"{stack.engine.url}/version", auth=(stack.engine.user, stack.engine.password), timeout=5).ok

    assert processes_of(tmp_path) == []


def test_what_a_killed_run_left_is_ended_although_the_next_one_needs_less(tmp_path: Path) -> None:
    with holder(tmp_path, "postgres") as (process, left):
        process.kill()
        process.wait(30)

        with LocalStack(tmp_path, set(), {}):
            assert not psutil.pid_exists(left["postgres"])


def test_a_stranger_is_never_ended_although_the_directory_stands_in_its_command(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input()", str(tmp_path / "postgres")]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as stranger:
        with LocalStack(tmp_path, {"postgres"}, {}):
            assert stranger.poll() is None
        stranger.kill()


@pytest.mark.stack
def test_the_environment_is_all_that_a_process_needs(stack: LocalStack) -> None:
    settings = Settings.from_environment(
        {**stack.environment, "Q2O_PROVIDER_URL": "http://127.0.0.1:1", "Q2O_PROVIDER_TOKEN": "sandbox"}
    )

    assert settings.engine_url.endswith("/engine-rest")
    assert settings.callback_secret.startswith("whsec_")
    with psycopg.connect(plain(settings.database_url)) as connection:
        assert connection.info.dbname == "q2o"
    assert reachable(settings.kafka, timeout_seconds=10)


@pytest.mark.stack
def test_given_addresses_are_used_and_nothing_is_started(stack: LocalStack, tmp_path: Path) -> None:
    given = {name: value for name, value in stack.environment.items() if name != "Q2O_DATA_DIR"}

    with LocalStack(tmp_path, environment=given) as second:
        assert processes_of(tmp_path) == []
        assert second.environment == given | {"Q2O_DATA_DIR": str(tmp_path)}
        with pytest.raises(StackError, match="this stack did not start engine"):
            _ = second.engine


@pytest.mark.stack
def test_a_proxy_of_the_network_is_not_asked_for_ports_of_this_machine(
    stack: LocalStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)

    with LocalStack(tmp_path, {"engine"}, stack.environment) as second:
        assert second.environment["Q2O_ENGINE_URL"] == stack.environment["Q2O_ENGINE_URL"]


@pytest.mark.stack
def test_the_engines_rest_api_answers_nobody_without_a_password(stack: LocalStack) -> None:
    url = stack.environment["Q2O_ENGINE_URL"]

    assert requests.get(f"{url}/task", timeout=5).status_code == 401
    # Never with the administrator's name: one wrong password locks the right one out for seconds, for every other test.
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
def test_the_engine_takes_no_weak_password(stack: LocalStack) -> None:
    answer = requests.post(
        f"{stack.engine.url}/user/create",
        json={"profile": {"id": "weak", "firstName": "W", "lastName": "K"}, "credentials": {"password": "demo"}},
        auth=(stack.engine.user, stack.engine.password),
        timeout=10,
    )

    assert answer.json()["message"] == "Password does not match policy"


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack of our own to break: what goes wrong with it is no other test's trouble."""
    with local_stack(tmp_path_factory, {"postgres", "kafka", "engine"}) as running:
        yield running


@pytest.mark.stack
@pytest.mark.parametrize("part", ["postgres", "kafka", "engine"])
def test_a_killed_part_starts_again_on_the_same_address(breakable: LocalStack, part: str) -> None:
    stack = breakable
    handle = {"postgres": stack.postgres, "kafka": stack.kafka, "engine": stack.engine}[part]
    before = handle.pid

    handle.kill()
    assert not handle.running()
    handle.start()

    assert handle.pid != before
    assert reachable(stack.environment["Q2O_KAFKA"], timeout_seconds=10)
    # The engine's connection pool finds the new server by itself.
    eventually(
        lambda: requests.get(f"{stack.engine.url}/version", auth=(stack.engine.user, stack.engine.password), timeout=5).ok, "login"
    )


@pytest.mark.stack
def test_a_wrong_engine_password_is_named(stack: LocalStack, tmp_path: Path) -> None:
    given = stack.environment | {"Q2O_ENGINE_USER": "stranger", "Q2O_ENGINE_PASSWORD": "wrong"}

    message = refused(LocalStack(tmp_path, {"engine"}, given))

    assert "refuses the password of user stranger: set Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD" in message
    assert "wrong" not in message


@pytest.mark.stack
def test_a_start_that_fails_halfway_leaves_nothing_running(stack: LocalStack, tmp_path: Path) -> None:
    """The engine fails last, when PostgreSQL and Kafka are up: here it has a database in which it may make no tables."""
    address = make_url(stack.environment["Q2O_DATABASE_URL"])
    with psycopg.connect(plain(stack.environment["Q2O_DATABASE_URL"]), autocommit=True) as connection:
        connection.execute("CREATE DATABASE locked")
    locked = address.set(database="locked").render_as_string(hide_password=False)
    with psycopg.connect(plain(locked)) as connection:
        connection.execute("DROP SCHEMA public")

    message = refused(LocalStack(tmp_path, environment={"Q2O_ENGINE_DATABASE_URL": locked}))

    assert "engine stopped while starting" in message
    assert str(tmp_path / "logs" / "engine.log") in message


@pytest.mark.parametrize("variable", ["Q2O_HTTP_PORT", "Q2O_DATABASE_PORT", "Q2O_ENGINE_PORT"])
def test_a_port_in_use_is_named_with_its_variable(tmp_path: Path, taken_port: int, variable: str) -> None:
    message = refused(LocalStack(tmp_path, {"postgres"}, {variable: str(taken_port)}))

    assert f"Port {taken_port} is in use" in message
    assert f"set {variable} to another port" in message


def test_a_port_that_is_no_number_is_named(tmp_path: Path) -> None:
    assert "Q2O_HTTP_PORT=http is not a port" in refused(LocalStack(tmp_path, {"postgres"}, {"Q2O_HTTP_PORT": "http"}))


def test_a_fixed_port_is_the_one_that_serves(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    with LocalStack(tmp_path, {"postgres"}, {"Q2O_DATABASE_PORT": str(port)}) as stack:
        assert urlsplit(stack.environment["Q2O_DATABASE_URL"]).port == port


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    given = {"Q2O_DATABASE_URL": "postgresql+psycopg://someone:secret@127.0.0.1:1/somewhere"}

    message = refused(LocalStack(tmp_path, {"postgres"}, given))

    assert "Cannot open the database 127.0.0.1:1/somewhere as someone" in message
    assert "correct Q2O_DATABASE_URL" in message
    assert "secret" not in message


def test_a_wrong_database_password_is_named_without_it(database: str, tmp_path: Path) -> None:
    given = {"Q2O_DATABASE_URL": make_url(database).set(password="secret").render_as_string(hide_password=False)}

    message = refused(LocalStack(tmp_path, {"postgres"}, given))

    assert "password authentication failed" in message
    assert "secret" not in message


def test_a_lost_credentials_file_is_named(tmp_path: Path) -> None:
    with LocalStack(tmp_path, {"postgres"}, {}):
        pass
    (tmp_path / "credentials.json").unlink()

    message = refused(LocalStack(tmp_path, {"postgres"}, {}))

    assert "does not accept the password in credentials.json" in message
    assert f"delete the directory {tmp_path}" in message


@pytest.mark.parametrize(
    ("service", "given", "told"),
    [
        ("kafka", {"Q2O_KAFKA": "127.0.0.1:1"}, "No Kafka broker responds at 127.0.0.1:1"),
        ("engine", {"Q2O_ENGINE_URL": "http://127.0.0.1:1/engine-rest"}, "without Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD"),
        (
            "engine",
            {"Q2O_ENGINE_URL": "http://127.0.0.1:1/engine-rest", "Q2O_ENGINE_USER": "a", "Q2O_ENGINE_PASSWORD": "b"},
            "No engine responds at http://127.0.0.1:1/engine-rest",
        ),
        ("postgres", {"Q2O_DATABASE_URL": "nonsense"}, "Q2O_DATABASE_URL is not a database address"),
        ("kafka", {"Q2O_JAVA": "/nowhere/java"}, "/nowhere/java cannot be run: set Q2O_JAVA"),
    ],
)
def test_a_given_service_or_program_that_is_not_there_is_named(
    tmp_path: Path, service: str, given: dict[str, str], told: str
) -> None:
    assert told in refused(LocalStack(tmp_path, {service}, given))


def test_a_broken_jar_is_named_with_both_sums_and_what_to_delete(tmp_path: Path, kafka_jars: Path) -> None:
    jar = read_lock(KAFKA_LOCK)[0]
    broken = kafka_jars / jar.file_name
    whole = broken.readlink()
    broken.unlink()
    broken.write_bytes(whole.read_bytes()[:-1])

    message = refused(LocalStack(tmp_path, {"kafka"}, {"Q2O_JAR_DIR": str(kafka_jars)}))
    broken.unlink()
    broken.symlink_to(whole)

    assert f"The jar {jar.artifact} {jar.version} is broken: its sha256 should be {jar.sha256}, but {broken} has " in message
    assert "delete that file" in message


def test_a_jar_that_cannot_be_fetched_is_named_and_nothing_half_fetched_stays(
    tmp_path: Path, kafka_jars: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = read_lock(KAFKA_LOCK)[0]
    missing = kafka_jars / jar.file_name
    whole = missing.readlink()
    missing.unlink()
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))

    message = refused(LocalStack(tmp_path / "data", {"kafka"}, {"Q2O_JAR_DIR": str(kafka_jars)}))

    assert f"Cannot download the jar {jar.artifact} {jar.version}" in message
    assert not missing.exists()
    assert not list(kafka_jars.glob(".staging*"))
    missing.symlink_to(whole)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    message = refused(LocalStack(tmp_path / "file" / "data", {"postgres"}, {}))

    assert str(tmp_path / "file") in message
    assert "set Q2O_DATA_DIR to another directory" in message


def test_a_disk_without_room_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"MiB are free at .*, but 1000000000 MiB are needed"):
        check_space(tmp_path, needed_mib=10**9)


@pytest.mark.parametrize(("system", "machine"), [("Windows", "AMD64"), ("Linux", "riscv64"), ("Darwin", "ppc")])
def test_a_machine_without_wheels_is_named(system: str, machine: str) -> None:
    with pytest.raises(StackError, match=f"this is {system} on {machine}: set Q2O_DATABASE_URL, Q2O_KAFKA and Q2O_ENGINE_URL"):
        check_platform(system, machine)


@pytest.mark.parametrize("part", ["engine", "kafka"])
def test_a_lock_names_every_wanted_jar_with_its_sum_and_no_address(part: str) -> None:
    lock = CONFIGURATION / part / "jgo.lock.toml"
    locked = {f"{jar.group}:{jar.artifact}:{jar.version}" for jar in read_lock(lock)}
    wanted = tomllib.loads((CONFIGURATION / part / "jgo.toml").read_text())["dependencies"]["coordinates"]

    assert {each.removesuffix("!") for each in wanted} <= locked
    assert all(len(jar.sha256) == 64 for jar in read_lock(lock))
    assert "://" not in lock.read_text()
