from __future__ import annotations

import _thread
import io
import json
import logging
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from domain.retry_rules import SERVICE_AWAY
from tests.support.in_process import keeping_signals_and_logs
from workers.runtime.logs import configure_logs
from workers.runtime.outages import OutageError
from workers.runtime.process import EXIT_SOFTWARE, run_loops, stop_on_signals
from workers.runtime.retries import repeat, until_available


class Waits:
    def run(self, stop: Event) -> None:
        stop.wait(30)


class Dies:
    def run(self, _: Event) -> None:
        raise RuntimeError("bug")


class Returns:
    def run(self, _: Event) -> None:
        return


class Ignores:
    def __init__(self, release: Event) -> None:
        self.release = release

    def run(self, _: Event) -> None:
        self.release.wait(30)


@pytest.fixture
def handlers() -> Iterator[None]:
    """Keep the signal handlers and the logging of the test run."""
    with keeping_signals_and_logs():
        yield


def test_a_process_whose_loops_end_when_they_are_stopped_exits_with_success() -> None:
    stop = Event()
    stop.set()

    assert run_loops({"one": Waits(), "two": Waits()}, stop) == 0


def test_a_loop_that_dies_stops_the_process_with_70() -> None:
    stop = Event()

    with capture_logs() as logs:
        code = run_loops({"one": Waits(), "bad": Dies()}, stop)

    assert code == EXIT_SOFTWARE
    assert stop.is_set()
    assert [(log["event"], log["loop"]) for log in logs] == [("loop_died", "bad")]


def test_a_loop_that_dies_is_told_with_its_error() -> None:
    told: list[str] = []

    run_loops({"one": Waits(), "bad": Dies()}, Event(), say=told.append)

    assert told == ["the loop `bad` died of RuntimeError: bug"]


def test_a_loop_that_returns_before_it_is_stopped_is_told_and_ends_the_process_with_70() -> None:
    told: list[str] = []

    code = run_loops({"one": Waits(), "short": Returns()}, Event(), say=told.append)

    assert (code, told) == (EXIT_SOFTWARE, ["the loop `short` ended by itself"])


def test_a_loop_that_does_not_end_is_named() -> None:
    stop, release, told = Event(), Event(), list[str]()
    stop.set()

    with capture_logs() as logs:
        code = run_loops({"stubborn": Ignores(release)}, stop, stop_timeout=timedelta(seconds=0.05), say=told.append)
    release.set()

    assert code == EXIT_SOFTWARE
    assert logs[0]["loops"] == ["stubborn"]
    assert told == ["the loop `stubborn` did not end within 0.05 s"]


@pytest.mark.usefixtures("handlers")
def test_a_signal_only_requests_a_stop() -> None:
    stop = stop_on_signals()

    os.kill(os.getpid(), signal.SIGTERM)

    assert stop.wait(10)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
@pytest.mark.timeout(20)
def test_a_signal_that_meets_the_main_thread_inside_the_event_stops_the_process_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the second of two signals does, or the first one when the main thread begins to wait."""
    stop, started, start = stop_on_signals(), list[Any](), _thread.start_new_thread

    def start_and_note(*given: Any) -> int:
        started.append(given)
        return start(*given)

    monkeypatch.setattr(_thread, "start_new_thread", start_and_note)

    with capture_logs() as logs:
        with stop._cond:  # type: ignore[attr-defined]  # the lock that `set` and `wait` take
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

        assert stop.wait(10)
    assert len(started) == 1
    assert [log["event"] for log in logs] == ["stop_requested"]


def test_an_outage_is_logged_once_and_waited_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.runtime.retries.SERVICE_AWAY", replace(SERVICE_AWAY, first_wait=timedelta(milliseconds=1)))
    answers: Iterator[Any] = iter([OutageError("away"), OutageError("away"), OutageError("away"), 7])

    def call() -> int:
        answer = next(answers)
        if isinstance(answer, OutageError):
            raise answer
        return int(answer)

    with capture_logs() as logs:
        assert until_available(call, Event(), service="engine") == 7

    assert [log["event"] for log in logs] == ["service_unavailable", "service_available_again"]
    assert logs[1]["attempts"] == 4
    assert logs[1]["seconds"] > 0


def test_an_error_that_is_no_outage_is_raised() -> None:
    def call() -> int:
        raise ValueError("bug")

    with pytest.raises(ValueError, match="bug"):
        until_available(call, Event(), service="engine")


def test_a_stop_ends_the_waiting_for_a_service() -> None:
    stop = Event()

    def call() -> int:
        stop.set()
        raise OutageError

    assert until_available(call, stop, service="engine") is None


def test_a_loop_goes_on_at_once_while_there_is_work() -> None:
    stop, work = Event(), [3, 2, 1]

    def run_once() -> int:
        count = work.pop(0)
        if not work:
            stop.set()
        return count

    repeat(run_once, stop, service="database", idle=timedelta(hours=1))

    assert work == []


@pytest.mark.usefixtures("handlers")
def test_logs_are_json_with_context_and_without_secrets() -> None:
    stream = io.StringIO()
    configure_logs("tasks", stream=stream)

    with structlog.contextvars.bound_contextvars(taskId="7"):
        structlog.get_logger().info("task_settled", outcome="completed", apiToken="abc")
    logging.getLogger("a.library").warning("careful %s", "now")
    password = "not for the log"
    try:
        int(f"bug {len(password)}")
    except ValueError:
        structlog.get_logger().exception("loop_died")

    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert first == {
        "event": "task_settled",
        "level": "info",
        "taskId": "7",
        "outcome": "completed",
        "apiToken": "***",
        "process": "tasks",
        "timestamp": first["timestamp"],
    }
    assert first["timestamp"].endswith("Z")
    assert (second["event"], second["level"]) == ("careful now", "warning")
    assert third["exception"][0]["exc_type"] == "ValueError"
    assert password not in stream.getvalue()
