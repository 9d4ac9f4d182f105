"""`q2o up` as its users run it: a second shell joins in, Ctrl-C leaves no process, and a loop that dies ends the suite with a message."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import psutil
import pytest
import requests
from rich.console import Console
from structlog.testing import capture_logs

from tests.support.suite import closing_what_is_opened, prepared
from workers import suite
from workers.demo.command import stay_up
from workers.local.stack import LocalStack
from workers.runtime.process import EXIT_SOFTWARE
from workers.runtime.settings import DEMO_TENANT

pytestmark = pytest.mark.stack

MACHINE = ("PATH", "HOME", "LANG", "XDG_CACHE_HOME", "Q2O_JAVA", "Q2O_JAR_DIR")


def environment(data_dir: Path) -> dict[str, str]:
    return {name: os.environ[name] for name in MACHINE if name in os.environ} | {"Q2O_DATA_DIR": str(data_dir), "Q2O_PORTS": "free"}


@contextmanager
def suite_up(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "workers", "up"]
    with subprocess.Popen(command, env=environment(data_dir), stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def customers_token(process: subprocess.Popen[str]) -> str:
    """The customer's token, which is printed last when everything is up."""
    printed = []
    for line in process.stderr or ():
        printed.append(line)
        if line.startswith("token of carla"):
            return line.rpartition(" ")[2].strip()
    raise AssertionError(f"q2o up ended with {process.wait()}: {''.join(printed)}")


class Dies:
    """A loop with a bug."""

    def run(self, _: Event) -> None:
        raise RuntimeError("no such column")


@pytest.fixture
def handlers() -> Iterator[None]:
    """Keep the signal handlers of the test run."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def left_running(data_dir: Path) -> list[str]:
    names = ("java", "postgres")
    return [
        process.info["name"]
        for process in psutil.process_iter(["name", "cmdline"])
        if process.info["name"] in names and any(str(data_dir) in word for word in process.info["cmdline"] or ())
    ]


def test_another_shell_joins_in_and_a_signal_leaves_nothing_running(tmp_path: Path) -> None:
    with suite_up(tmp_path) as process:
        token = customers_token(process)
        joined = subprocess.run(
            [
                "bash",
                "-c",
                f'. {tmp_path}/environment && "{sys.executable}" -m workers reconcile --once --dry-run && echo "$Q2O_HTTP_PORT"',
            ],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert (joined.returncode, joined.stderr.splitlines()[-1]) == (0, "0 to repair")
        port = int(joined.stdout.split()[-1])
        orders = requests.get(f"http://127.0.0.1:{port}/orders", headers={"Authorization": f"Bearer {token}"}, timeout=10)
        assert (orders.status_code, orders.json()["items"]) == (200, [])

        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)

        assert process.returncode == 0
    assert left_running(tmp_path) == []
    assert (tmp_path / "environment").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("handlers")
def test_a_loop_that_dies_ends_the_suite_which_names_the_loop_and_its_log(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "PROCESSES", {**suite.PROCESSES, "inbox": lambda _: Dies()})
    shown = io.StringIO()

    with closing_what_is_opened(), capture_logs(), prepared(stack) as running:
        running.start(frozenset({"http", "inbox"}))
        stay_up(Console(file=shown, soft_wrap=True), running, DEMO_TENANT)

    assert running.exit_code == EXIT_SOFTWARE
    last = shown.getvalue().splitlines()[-1]
    assert last.startswith("q2o: the loop `inbox` died of RuntimeError: no such column")
    assert last.endswith(str(stack.data_dir / "logs" / "suite.log"))
