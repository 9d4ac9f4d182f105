"""A process is ready when every service that it needs answers. A probe has a time limit, and its answer is kept for a second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread

import pytest

from tests.support.waiting import eventually
from workers.runtime.engine_connection import EngineLockedOutError, EngineUntrustedError
from workers.runtime.process import run_loops
from workers.runtime.readiness import AFTER_A_REFUSED_LOGIN, FRESH, Readiness

SHORT = timedelta(milliseconds=50)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now

    def pass_time(self, time: timedelta) -> None:
        self.now += time.total_seconds()


class Service:
    """A service that counts its questions."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.questions = 0

    def __call__(self) -> None:
        self.questions += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def silence() -> Iterator[Callable[[], bool]]:
    """A service that does not answer until the test is over."""
    over = Event()
    yield lambda: bool(over.wait())
    over.set()


def test_a_process_is_ready_when_every_need_answers() -> None:
    readiness = Readiness(Event())

    readiness.watch({"database": Service(), "engine": Service()})

    assert readiness.complaints() == []


def test_a_process_names_each_need_that_does_not_answer_in_one_line() -> None:
    readiness = Readiness(Event())

    readiness.watch({"database": Service(OSError("it is\naway")), "engine": Service(), "Kafka": Service(ValueError())})

    assert readiness.complaints() == ["database: it is away", "Kafka: ValueError"]


def test_a_process_that_starts_is_not_ready() -> None:
    assert Readiness(Event()).complaints() == ["process: it starts"]


def test_a_process_that_is_asked_to_stop_is_not_ready() -> None:
    stop = Event()
    readiness = Readiness(stop)
    readiness.watch({})

    stop.set()

    assert readiness.complaints() == ["process: it stops"]


def test_a_process_whose_loop_has_died_is_not_ready() -> None:
    class Dying:
        def run(self, _stop: Event) -> None:
            raise RuntimeError("dead")

    stop = Event()
    readiness = Readiness(stop)
    readiness.watch({})

    run_loops({"loop": Dying()}, stop)

    assert readiness.complaints() == ["process: it stops"]


def test_a_loop_that_dies_is_not_ready_before_its_death_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dying:
        def run(self, _stop: Event) -> None:
            raise RuntimeError("dead")

    stop, seen = Event(), list[bool]()
    monkeypatch.setattr("workers.runtime.process._log.exception", lambda *_, **__: seen.append(stop.is_set()))

    run_loops({"loop": Dying()}, stop)

    assert seen == [True]


def test_a_service_that_is_silent_does_not_hold_a_probe(silence: Callable[[], bool]) -> None:
    readiness = Readiness(Event(), limit=SHORT)
    readiness.watch({"engine": silence})

    assert readiness.complaints() == ["engine: no answer within 0.05 s"]


def test_a_service_that_is_silent_is_asked_once(silence: Callable[[], bool]) -> None:
    questions = list[int]()

    def ask() -> None:
        questions.append(1)
        silence()

    readiness = Readiness(Event(), limit=SHORT)
    readiness.watch({"engine": ask})

    for _ in range(3):
        readiness.complaints()

    assert len(questions) == 1


def test_many_probes_at_once_ask_a_service_once() -> None:
    service = Service()
    readiness = Readiness(Event())
    readiness.watch({"database": service})

    probes = [Thread(target=readiness.complaints) for _ in range(20)]
    for probe in probes:
        probe.start()
    for probe in probes:
        probe.join()

    assert service.questions == 1


def test_an_answer_holds_for_a_second() -> None:
    clock, service = Clock(), Service()
    readiness = Readiness(Event(), clock=clock)
    readiness.watch({"database": service})
    readiness.complaints()

    service.error = OSError("away")
    assert readiness.complaints() == []
    clock.pass_time(FRESH)

    assert readiness.complaints() == ["database: away"]


@pytest.mark.parametrize("refusal", [EngineLockedOutError("locked"), EngineUntrustedError("wrong")])
def test_a_refused_login_is_not_tried_every_second(refusal: Exception) -> None:
    clock, service = Clock(), Service(refusal)
    readiness = Readiness(Event(), clock=clock)
    readiness.watch({"engine": service})
    readiness.complaints()

    clock.pass_time(AFTER_A_REFUSED_LOGIN / 2)
    readiness.complaints()
    assert service.questions == 1
    clock.pass_time(AFTER_A_REFUSED_LOGIN / 2)
    readiness.complaints()

    assert service.questions == 2


def test_a_service_that_answers_late_counts_from_then_on() -> None:
    late, answered = Event(), Event()

    def slow() -> None:
        late.wait()
        answered.set()

    readiness = Readiness(Event(), limit=SHORT)
    readiness.watch({"engine": slow})
    assert readiness.complaints()
    late.set()

    eventually(lambda: not readiness.complaints(), "the answer counts")
