"""The local suite without its services: a process that uses another address of the engine for a while, and the suite's messages."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from threading import Event
from uuid import uuid4

import httpx
import pytest
from rich.console import Console

from tests.support import asking
from workers import suite
from workers.demo.command import show_addresses
from workers.demo.local_suite import LocalSuite
from workers.local.ports import PortBook
from workers.providers.signatures import new_secret
from workers.runtime.settings import Settings

DIRECT, DETOUR = "http://direct/engine-rest", "http://detour/engine-rest"


class Waiting:
    """A loop that runs until it is told to end."""

    def __init__(self) -> None:
        self.has_ended = False

    def run(self, stop: Event) -> None:
        stop.wait()
        self.has_ended = True


class Dying:
    """A loop that ends with an error."""

    def run(self, _stop: Event) -> None:
        raise RuntimeError("dead")


@pytest.fixture
def local(tmp_path: Path) -> LocalSuite:
    local = LocalSuite(tmp_path / "a clone", {})
    others = ("DATABASE_URL", "KAFKA", "ENGINE_USER", "ENGINE_PASSWORD", "PROVIDER_URL", "PROVIDER_TOKEN")
    given = {f"Q2O_{name}": "x" for name in others} | {"Q2O_DISPATCH_ENGINE_USER": "q2o-dispatch"}
    local.settings = Settings(
        {
            **given,
            "Q2O_JWT_SECRET": "s" * 32,
            "Q2O_CALLBACK_SECRET": new_secret(),
            "Q2O_ENGINE_URL": DIRECT,
            "Q2O_PROVIDER_URL": DIRECT,
        }
    )
    return local


def test_health_and_metrics_are_served_beside_the_api(local: LocalSuite) -> None:
    local.settings = local.settings.having(database_url="postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    local.stack.data_dir.mkdir()
    with local._cleanup:
        port = local._cleanup.enter_context(PortBook(local.stack.data_dir / "ports.json")).take("health")
        local._serve_health(port)

        assert asking.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        assert asking.get(f"http://127.0.0.1:{port}/readyz").status_code == 503

    with pytest.raises(httpx.ConnectError):
        asking.get(f"http://127.0.0.1:{port}/healthz")


def test_a_process_that_joins_in_does_not_take_the_port_of_health(tmp_path: Path) -> None:
    joined = LocalSuite(tmp_path, {"Q2O_HEALTH_PORT": "18083", "Q2O_LOCK_DURATION_SECONDS": "5"})._own_environment

    assert ("Q2O_HEALTH_PORT" in joined, joined["Q2O_LOCK_DURATION_SECONDS"]) == (False, "5")


def test_another_shell_finds_the_api_at_the_port_that_it_really_has(local: LocalSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kills: the commands of docs/first-quote.md at the fixed port, where no suite with free ports listens."""
    monkeypatch.setattr(LocalSuite, "_own_environment", {})
    local.settings = local.settings.having(http_port="45678")
    local.environment_file.parent.mkdir(parents=True)

    local._write_environment()

    assert "export Q2O_API=http://127.0.0.1:45678\n" in local.environment_file.read_text()


def test_a_detour_lasts_as_long_as_its_block_and_runs_as_its_process(local: LocalSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, engines = Waiting(), list[tuple[str, str]]()

    def build(settings: Settings) -> Waiting:
        engines.append((settings.engine_url, settings.engine_user))
        return loop

    monkeypatch.setattr(suite, "PROCESSES", {"dispatch": build})

    with local.detour("dispatch", DETOUR):
        assert not loop.has_ended

    assert loop.has_ended
    assert engines == [(DETOUR, "q2o-dispatch")]
    assert not local.stopped.is_set()


def test_a_process_that_dies_on_a_detour_ends_the_suite(local: LocalSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PROCESSES", {"dispatch": lambda _: Dying()})

    with local.detour("dispatch", DETOUR):
        assert local.stopped.wait(30)


def test_the_line_for_a_second_shell_works_for_a_path_with_a_space(local: LocalSuite) -> None:
    shown = StringIO()

    show_addresses(Console(file=shown, width=1000), local, uuid4())

    assert f". '{local.environment_file}'; then" in shown.getvalue()
