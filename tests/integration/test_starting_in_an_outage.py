"""A process that starts while what it needs is away waits for it, with one line in its log, and is not ready meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from tests.integration.test_command_line import MACHINE, assert_one_line, q2o
from tests.support import asking
from tests.support.answering import Reply, answering
from tests.support.database import acting
from tests.support.http import CALLBACK_SECRET, JWT_SECRET
from tests.support.links.link import Link
from tests.support.ports import free_port, free_port_that_refuses
from tests.support.waiting import eventually
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine as Client


@dataclass(frozen=True, slots=True)
class Starting:
    """A process of the suite, as the platform sees it."""

    process: subprocess.Popen[bytes]
    health: str
    log: Path

    def asked(self, path: str) -> int | None:
        """The status of a probe; None while nobody listens."""
        try:
            return asking.get(self.health + path).status_code
        except httpx.TransportError:
            return None

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]

    def ends(self) -> int:
        """Stop it as the platform does; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@contextmanager
def starting(directory: Path, process: str, **settings: str) -> Iterator[Starting]:
    port, log = free_port(), directory / "log"
    given = {f"Q2O_{name.upper()}": value for name, value in {"health_port": str(port), **settings}.items()}
    environment = {name: os.environ[name] for name in MACHINE if name in os.environ} | {"Q2O_DATA_DIR": str(directory)} | given
    with log.open("wb") as output:
        running = subprocess.Popen([sys.executable, "-m", "workers", process], env=environment, stdout=output, stderr=output)
    try:
        yield Starting(running, f"http://127.0.0.1:{port}", log)
    finally:
        running.kill()
        running.wait()


@pytest.fixture
def link(db: Engine) -> Iterator[Link]:
    with Link(str(db.url.host), int(db.url.port or 5432)) as link:
        yield link


def edge_settings(db: Engine, link: Link) -> dict[str, str]:
    url = acting(db, "http").url.set(host="127.0.0.1", port=link.port)
    return {
        "database_url": url.render_as_string(hide_password=False),
        "jwt_secret": JWT_SECRET,
        "callback_secret": CALLBACK_SECRET,
        "http_port": str(free_port()),
    }


def test_a_process_waits_for_its_database_and_begins_when_it_is_back(db: Engine, link: Link, tmp_path: Path) -> None:
    link.cut()
    with starting(tmp_path, "http", **edge_settings(db, link)) as edge:
        eventually(lambda: link.refused >= 3, "the edge has tried in vain, more than once")
        assert (edge.asked("/healthz"), edge.asked("/readyz")) == (200, 503)

        link.mend()

        eventually(lambda: edge.asked("/readyz") == 200, "the edge is ready")
        assert edge.ends() == 0
    assert len(edge.logged("service_unavailable")) == 1
    assert "Traceback" not in edge.log.read_text()


def test_a_process_that_waits_for_kafka_is_not_ready_and_ends_when_it_is_told_to(db: Engine, tmp_path: Path) -> None:
    address = acting(db, "relay").url.render_as_string(hide_password=False)
    with starting(tmp_path, "relay", database_url=address, kafka=f"127.0.0.1:{free_port()}") as relay:
        eventually(lambda: relay.logged("service_unavailable"), "the relay has tried in vain")

        assert relay.asked("/readyz") == 503
        assert relay.ends() == 0
    assert [line["service"] for line in relay.logged("service_unavailable")] == ["Kafka"]


def test_a_wrong_password_is_no_outage_to_wait_for(db: Engine, tmp_path: Path) -> None:
    address = acting(db, "relay").url.set(password="not-it").render_as_string(hide_password=False)

    ended = q2o(tmp_path, "relay", database_url=address, kafka="127.0.0.1:1")

    assert_one_line(ended, "password authentication failed", "Q2O_DATABASE_URL")


@pytest.fixture(params=["nobody listens", "no engine answers"])
def no_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address at which there is no engine, as while it restarts behind a gateway."""
    if request.param == "nobody listens":
        with free_port_that_refuses() as port:
            yield f"http://127.0.0.1:{port}/engine-rest"
    else:
        with answering(lambda _: Reply(status=404, body=b"<html>nope</html>")) as address:
            yield f"{address}/nope"


@pytest.mark.parametrize("process", ["dispatch", "tasks", "reconcile"])
def test_a_process_that_starts_without_its_engine_says_so_once_and_is_told_once_to_stop(
    db: Engine, tmp_path: Path, no_engine: str, process: str
) -> None:
    address = acting(db, process).url.render_as_string(hide_password=False)
    login = {"engine_url": no_engine, "engine_user": "worker", "engine_password": "secret"}
    provider = {} if process == "dispatch" else {"provider_url": "http://127.0.0.1:9", "provider_token": "token"}

    with starting(tmp_path, process, database_url=address, **login, **provider) as running:
        eventually(lambda: running.logged("service_unavailable"), "the process has asked the engine")
        running.process.send_signal(signal.SIGTERM)
        assert running.ends() == 0

    [first, *others] = running.logged("service_unavailable")
    assert no_engine in first["reason"]
    assert process == "reconcile" or others == []  # each sweep has an outage of its own
    assert len(running.logged("stop_requested")) == 1


def test_a_dispatcher_says_that_its_engine_is_there_again(db: Engine) -> None:
    answers = [Reply(status=502, body=b"<html>"), Reply(body=b'{"version": "7.24.0"}')]
    stop = Event()
    with answering(lambda _: answers.pop(0)) as address, closing(Client(f"{address}/engine-rest", "user", "password")) as engine:
        running = Thread(target=Dispatcher(acting(db, "dispatch"), engine).run, args=(stop,))
        with capture_logs() as logs:
            running.start()
            eventually(lambda: any(log["event"] == "service_available_again" for log in logs), "the outage is over")
            stop.set()
            running.join()

    events = [(log["event"], log["service"]) for log in logs if "service" in log]
    assert events == [("service_unavailable", "workflow dispatch"), ("service_available_again", "workflow dispatch")]
