"""`q2o status` counts the processes that have sessions in the database, and names the hosts on which they run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import Engine, create_engine
from typer.testing import CliRunner

from tests.support.database import acting, new_database
from tests.support.waiting import eventually
from workers import cli_errors, suite
from workers.cli import app
from workers.runtime.database import LONGEST_NAME, AtWork, connect, processes_at_work

HOST = socket.gethostname()
PROGRAM = """
import sys
from workers.runtime.database import connect
pool = connect(sys.argv[1], "relay")
sessions = [pool.connect() for _ in range(2)]
print("connected", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def db(database: str) -> Iterator[Engine]:
    """Give a database of its own: in the others, tests before have left sessions of processes open."""
    with new_database(database, "q2o_at_work") as engine:
        yield engine


def address(db: Engine) -> str:
    return db.url.render_as_string(hide_password=False)


@contextmanager
def relay(db: Engine) -> Iterator[int]:
    """Run a process with two sessions of a relay; gives its id."""
    command = [sys.executable, "-c", PROGRAM, address(db)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


@contextmanager
def sessions(db: Engine, process: str, number: int) -> Iterator[None]:
    """Open sessions of this process, as a pool of its own has them."""
    pool = connect(address(db), process)
    with ExitStack() as opened:
        opened.callback(pool.dispose)
        for _ in range(number):
            opened.enter_context(pool.connect())
        yield


def at_work(db: Engine, process: str) -> list[AtWork]:
    with db.connect() as connection:
        return [each for each in processes_at_work(connection) if each.process == process]


def test_a_process_with_several_sessions_counts_once_and_two_processes_count_twice(db: Engine) -> None:
    with relay(db) as first:
        with relay(db) as second, sessions(db, "relay", 3), sessions(db, "relay health", 1):
            both = at_work(db, "relay")
        eventually(lambda: len(at_work(db, "relay")) == 1, "the sessions of a process that has ended are gone")
        left = at_work(db, "relay")

    assert {(each.host, each.pid, each.sessions) for each in both} == {
        (HOST, first, 2),
        (HOST, second, 2),
        (HOST, os.getpid(), 4),
    }
    assert left == [AtWork("relay", HOST, first, 2)]


def test_a_persons_command_with_the_login_of_a_process_is_no_running_process(db: Engine) -> None:
    with sessions(db, "relay rebuild", 1):
        assert at_work(db, "relay") == []


def test_a_process_of_another_database_of_the_server_is_not_counted(db: Engine) -> None:
    with sessions(create_engine(db.url.set(database="postgres")), "relay", 1):
        assert at_work(db, "relay") == []


@pytest.mark.parametrize(
    ("host", "shown"), [("x" * 100, "x" * (LONGEST_NAME - len(f"q2o relay :{os.getpid()}"))), ("döm pod]", "dmpod]")]
)
def test_any_name_of_a_host_leaves_the_process_known(db: Engine, monkeypatch: pytest.MonkeyPatch, host: str, shown: str) -> None:
    """Kills: a name that PostgreSQL cuts before the process id, so that all processes of a host are one."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)

    with sessions(db, "relay", 1):
        assert at_work(db, "relay") == [AtWork("relay", shown, os.getpid(), 1)]


def test_the_status_shows_how_many_processes_of_a_kind_run_and_on_which_hosts(db: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "connect", lambda *_: acting(db, "audit"))
    monkeypatch.setattr(cli_errors.out, "width", 200)
    settings = {"Q2O_DATABASE_URL": address(db)}
    with relay(db), sessions(db, "relay", 2), monkeypatch.context() as elsewhere:
        elsewhere.setattr(socket, "gethostname", lambda: "pod-[b]")
        with sessions(db, "relay", 1):
            shown, told = (CliRunner().invoke(app, command, env=settings) for command in (["status"], ["status", "--json"]))

    assert (shown.exit_code, told.exit_code) == (0, 0), shown.output + told.output
    [line] = [line for line in shown.output.splitlines() if line.strip(" │┃").startswith("relay")]
    [process, number, hosts, *_] = [cell.strip() for cell in line.strip("│").split("│")]
    assert (process, number, set(hosts.split(", "))) == ("relay", "3", {f"{HOST} (2)", "pod-[b]"})
    running = [each for each in json.loads(told.output)["processes"] if each["process"] == "relay"]
    assert sorted((each["host"], each["sessions"]) for each in running) == sorted([(HOST, 2), (HOST, 2), ("pod-[b]", 1)])
