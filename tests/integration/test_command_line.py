"""A command that meets a fault outside prints one line that says what to do, exits with 2, and leaves no process running."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from tests.support.in_process import keeping_signals_and_logs
from tests.support.suite import closing_what_is_opened
from workers.cli import app
from workers.local.jars import JarStore, default_jar_directory, read_lock
from workers.local.ports import NEEDS
from workers.local.source import CONFIGURATION

MACHINE = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "Q2O_JAVA", "Q2O_JAR_DIR", "HTTPS_PROXY", "SSL_CERT_FILE")


Ended = subprocess.CompletedProcess[str]


def variables(data_dir: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a command, by their variables."""
    return {"Q2O_DATA_DIR": str(data_dir), **{f"Q2O_{name.upper()}": value for name, value in settings.items()}}


def q2o_process(data_dir: Path, *arguments: str, **settings: str) -> Ended:
    """Run a command in a process of its own, which takes seconds of a processor to load its part of the suite."""
    environment = {name: os.environ[name] for name in MACHINE if name in os.environ}
    command = [sys.executable, "-m", "workers", *arguments]
    environment |= variables(data_dir, settings)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def q2o(data_dir: Path, *arguments: str, **settings: str) -> Ended:
    """Run a command in this process: for what it says, and what it leaves running."""
    others = dict.fromkeys((name for name in os.environ if name.startswith("Q2O_") and name not in MACHINE), None)
    with closing_what_is_opened(), keeping_signals_and_logs():
        ended = CliRunner().invoke(app, list(arguments), env={**others, **variables(data_dir, settings)})
    if not isinstance(ended.exception, SystemExit | None):
        raise ended.exception
    return Ended(arguments, ended.exit_code, ended.stdout, ended.stderr)


def left_running(data_dir: Path) -> list[str]:
    """The processes of this data directory, which have it on their command line."""
    return [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"]) if mentions(process.info, data_dir)
    ]


def mentions(info: Mapping[str, list[str] | None], data_dir: Path) -> bool:
    return any(str(data_dir) in word for word in info["cmdline"] or ())


def assert_one_line(ended: subprocess.CompletedProcess[str], *words: str) -> None:
    assert ended.returncode == 2, ended.stderr
    [line] = [line for line in ended.stderr.splitlines() if line.startswith("q2o:")]
    assert all(word in line for word in words), line
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""


def test_a_port_in_use_is_reported_with_its_variable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ended = q2o_process(tmp_path, "demo", "--once", "--json", engine_port=port)

    assert_one_line(ended, port, "Q2O_ENGINE_PORT")
    assert left_running(tmp_path) == []


@pytest.mark.parametrize("command", [("up",), ("demo",)])
def test_a_suite_that_stays_up_asks_for_fixed_ports_and_says_who_needs_one_that_is_taken(
    tmp_path: Path, command: tuple[str]
) -> None:
    with socket.socket() as taken:
        # This test takes the port, or a suite on this machine has it already: it is not free in either case.
        with suppress(OSError):
            taken.bind(("127.0.0.1", NEEDS["Q2O_HTTP_PORT"].port))
            taken.listen()

        ended = q2o(tmp_path, *command)

    assert_one_line(ended, "Port 18080 is in use", "the HTTP edge", "Q2O_HTTP_PORT", "Q2O_PORTS=free")
    assert left_running(tmp_path) == []


def test_the_port_of_the_sandbox_provider_can_be_chosen(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        ended = q2o(tmp_path, "up", ports="free", provider_port=port)

    assert_one_line(ended, port, "the sandbox provider", "Q2O_PROVIDER_PORT")


def test_an_unreachable_database_is_reported_with_its_variable(tmp_path: Path) -> None:
    ended = q2o(tmp_path, "demo", "--once", database_url="postgresql+psycopg://q2o:secret@127.0.0.1:1/q2o")

    assert_one_line(ended, "127.0.0.1", "Q2O_DATABASE_URL")
    assert "secret" not in ended.stderr
    assert left_running(tmp_path) == []


def test_a_wrong_password_is_reported_without_showing_it(tmp_path: Path, database: str) -> None:
    user, _, rest = database.removeprefix("postgresql+psycopg://").partition(":")
    wrong = f"postgresql+psycopg://{user}:not-it@{rest.partition('@')[2]}"

    ended = q2o(tmp_path, "demo", "--once", database_url=wrong)

    assert_one_line(ended, "password", "Q2O_DATABASE_URL")
    assert "not-it" not in ended.stderr
    assert left_running(tmp_path) == []


def test_a_broken_jar_is_named_and_nothing_starts(tmp_path: Path) -> None:
    jars = tmp_path / "jars"
    jars.mkdir()
    for part in ("kafka", "engine"):
        for jar in JarStore(default_jar_directory(os.environ)).provide(read_lock(CONFIGURATION / part / "jgo.lock.toml")):
            (jars / jar.name).unlink(missing_ok=True)
            (jars / jar.name).symlink_to(jar)
    victim = next(jars.glob("*kafka-clients*.jar"))
    victim.unlink()
    victim.write_bytes(b"no jar")

    ended = q2o(tmp_path / "data", "demo", "--once", jar_dir=str(jars))

    assert_one_line(ended, victim.name, "delete")
    assert left_running(tmp_path / "data") == []


def test_the_openapi_document_is_written_without_any_service(tmp_path: Path) -> None:
    ended = q2o(tmp_path, "openapi")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (Path(__file__).parents[2] / "docs" / "openapi.json").read_text()


def test_the_models_agree_with_the_workers(tmp_path: Path) -> None:
    ended = q2o_process(tmp_path, "check")

    assert ended.returncode == 0
    [line] = ended.stderr.splitlines()
    assert re.fullmatch(r"\d+ models and \d+ topics of the workers agree: topics, variables, error codes, references", line)
