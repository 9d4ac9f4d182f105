"""A local stack that cannot start prints one line that names the cause and what to do, and leaves no process running."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from tests.support.local_stacks import refused
from workers.local.errors import StackError, check_space
from workers.local.jars import JarStore, default_jar_directory, read_lock
from workers.local.java import check_platform
from workers.local.source import CONFIGURATION
from workers.local.stack import LocalStack

KAFKA_LOCK = CONFIGURATION / "kafka" / "jgo.lock.toml"


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def kafka_jars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a jar directory with links to Kafka's jars, without copying them."""
    directory = tmp_path_factory.mktemp("jars")
    for jar in JarStore(default_jar_directory(os.environ)).provide(read_lock(KAFKA_LOCK)):
        (directory / jar.name).symlink_to(jar)
    return directory


@pytest.mark.parametrize("variable", ["Q2O_HTTP_PORT", "Q2O_DATABASE_PORT", "Q2O_ENGINE_PORT"])
def test_a_port_in_use_is_named_with_its_variable(tmp_path: Path, taken_port: int, variable: str) -> None:
    message = refused(LocalStack(tmp_path, {"postgres"}, {variable: str(taken_port)}))

    assert f"Port {taken_port} is in use" in message
    assert f"set {variable} to another port" in message


def test_a_port_that_is_no_number_is_named(tmp_path: Path) -> None:
    assert "Q2O_HTTP_PORT=http is not a port" in refused(LocalStack(tmp_path, {"postgres"}, {"Q2O_HTTP_PORT": "http"}))


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


def test_a_jar_that_cannot_be_fetched_is_named_and_no_partial_file_stays(
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
