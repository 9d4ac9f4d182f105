"""A process that gets no more threads keeps no task locked that nobody works on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import timedelta
from threading import Event, Thread
from unittest.mock import call, create_autospec

import pytest

from tests.support.answering import Reply, Request, answering
from tests.support.metrics import metric
from tests.support.waiting import eventually
from tests.unit.test_isolated_tasks import TOPIC, row
from tests.unit.test_outcomes import fetched
from workers.pod.contract import RetryLater, Task, Topic
from workers.pod.pod import CAPACITY, Pod
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

Threads = Callable[[Iterable[bool]], None]


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    """Say for each thread of a task in turn whether the process gets it; later ones are refused."""

    def allow(allowed: Iterable[bool]) -> None:
        turns = iter(allowed)

        class Scarce(Thread):
            def start(self) -> None:
                if self.name == TOPIC and not next(turns, False):
                    raise RuntimeError("can't start new thread")
                super().start()

        monkeypatch.setattr("workers.pod.pod.Thread", Scarce)

    return allow


class FakeEngine:
    """Answers each fetch with the next of `fetches`, and replies to a failure when all of them have been worked off."""

    def __init__(self, fetches: int, *tasks: str) -> None:
        self._tasks = [row(task_id) for task_id in tasks]
        self._left = fetches
        self._worked_off = Event()
        self.calls: list[str] = []

    def answer(self, request: Request) -> Reply:
        what = request.path.rpartition("/")[2]
        if what == "fetchAndLock" and b"q2o.no-topic" in request.body:
            return Reply(body=b"[]")  # it ends a poll
        if what == "fetchAndLock":
            self._left -= 1
            if self._left < 0:
                self._worked_off.set()
            return Reply(body=json.dumps(self._tasks if self._left >= 0 else []).encode())
        if what == "failure":
            self._worked_off.wait()
        self.calls.append(f"{what} {request.path.split('/')[-2]}")
        return Reply(status=204)


def worked(fake: FakeEngine, handler: Callable[[Task], Mapping[str, Variable]], until: Callable[[], object]) -> None:
    """Let a pod work on what the engine answers."""
    stop = Event()
    with answering(fake.answer) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        pod = Pod(engine, {TOPIC: Topic(name=TOPIC, handler=handler)}, poll=timedelta(milliseconds=50))
        loop = Thread(target=pod.run, args=(stop,))
        loop.start()
        try:
            eventually(until, "the pod has worked")
        finally:
            stop.set()
            loop.join(60)


def test_a_task_that_gets_no_thread_is_given_back_with_those_behind_it(threads: Threads) -> None:
    engine = create_autospec(Engine, instance=True, worker_id="q2o-host-01234567")
    engine.fetch_and_lock.return_value = [fetched(id=task_id) for task_id in ("first", "second")]
    pod = Pod(engine, {TOPIC: Topic(name=TOPIC, handler=lambda _: {})})
    threads([])

    with pytest.raises(RuntimeError, match="can't start new thread"):
        pod.run_once()

    assert engine.unlock.mock_calls == [call("first"), call("second")]
    assert (pod._in_flight, pod._heartbeat._leases) == ({}, set())
    assert (metric("q2o_external_task_in_flight", topic=TOPIC), metric("q2o_external_task_capacity_free")) == (0, CAPACITY)


def test_a_task_that_got_no_thread_is_carried_out_when_it_is_fetched_again(threads: Threads) -> None:
    fake = FakeEngine(2, "first")
    threads([False, True])

    worked(fake, lambda _: {}, until=lambda: "complete first" in fake.calls)

    assert fake.calls == ["unlock first", "complete first"]


def test_the_next_attempt_that_is_due_before_the_reply_to_a_failure_needs_no_thread(threads: Threads) -> None:
    fake = FakeEngine(2, "first")
    tries: list[str] = []
    threads([True])

    def handler(task: Task) -> Mapping[str, Variable]:
        tries.append(task.id)
        if len(tries) == 1:
            raise RetryLater(timedelta(), "at once")
        return {}

    worked(fake, handler, until=lambda: "complete first" in fake.calls)

    assert fake.calls == ["failure first", "complete first"]
