"""A process of the local suite that goes to the engine by another address for a while."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from workers import suite
from workers.demo.local_suite import LocalSuite
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
    """A loop that a fault of ours ends."""

    def run(self, _stop: Event) -> None:
        raise RuntimeError("dead")


@pytest.fixture
def local(tmp_path: Path) -> LocalSuite:
    local = LocalSuite(tmp_path, {})
    others = ("DATABASE_URL", "KAFKA", "ENGINE_USER", "ENGINE_PASSWORD", "PROVIDER_URL", "PROVIDER_TOKEN", "CALLBACK_SECRET")
    given = {f"Q2O_{name}": "x" for name in others}
    local.settings = Settings.from_environment({**given, "Q2O_JWT_SECRET": "s" * 32, "Q2O_ENGINE_URL": DIRECT})
    return local


def test_a_detour_lasts_as_long_as_its_block(local: LocalSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, addresses = Waiting(), list[str]()

    def build(settings: Settings) -> Waiting:
        addresses.append(settings.engine_url)
        return loop

    monkeypatch.setattr(suite, "PROCESSES", {"dispatch": build})

    with local.detour("dispatch", DETOUR):
        assert not loop.has_ended

    assert loop.has_ended
    assert addresses == [DETOUR]
    assert not local.stopped.is_set()


def test_a_process_that_dies_on_a_detour_ends_the_suite(local: LocalSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "PROCESSES", {"dispatch": lambda _: Dying()})

    with local.detour("dispatch", DETOUR):
        assert local.stopped.wait(30)
