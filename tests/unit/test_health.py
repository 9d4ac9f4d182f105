"""Health and metrics have a port of their own, beside the API."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import asking
from workers.runtime.health import serve_health
from workers.runtime.settings import SettingError


@contextmanager
def served(*complaints: str) -> Iterator[str]:
    with serve_health("127.0.0.1", 0, lambda: complaints) as server:
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_process_is_ready_while_nothing_is_missing() -> None:
    with served() as address:
        answer = asking.get(f"{address}/readyz")

    assert (answer.status_code, answer.text) == (200, "ready\n")


def test_a_process_that_cannot_work_says_why_and_is_alive() -> None:
    with served("database: it is away", "engine: no answer within 2 s") as address:
        answer = asking.get(f"{address}/readyz")

        assert asking.get(f"{address}/healthz").status_code == 200
    assert (answer.status_code, answer.text) == (503, "database: it is away\nengine: no answer within 2 s\n")


def test_metrics_are_in_the_text_format_of_prometheus() -> None:
    with served() as address:
        answer = asking.get(f"{address}/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "# TYPE q2o_command_duration_seconds histogram" in answer.text


def test_any_other_path_is_unknown() -> None:
    with served() as address:
        assert asking.get(f"{address}/quotes").status_code == 404


def test_a_taken_port_is_reported_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(SettingError, match=f"cannot listen on 127.0.0.1:{port} .*Q2O_HEALTH_PORT"):
            serve_health("127.0.0.1", port, list)
