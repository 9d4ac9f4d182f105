"""A process that gets no more threads keeps no task locked that nobody works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from threading import Thread
from unittest.mock import call, create_autospec

import pytest

from tests.support.fetched_again import TOPIC, FetchedAgain, worked
from tests.support.metrics import metric
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
    engine = FetchedAgain()
    threads([False, True])

    worked(engine, lambda _: {}, until=lambda: "complete" in engine.calls)

    assert engine.calls == ["unlock", "complete"]


def test_the_next_attempt_that_is_due_before_the_reply_to_a_failure_needs_no_thread(threads: Threads) -> None:
    engine = FetchedAgain()
    tries: list[str] = []
    threads([True])

    def handler(task: Task) -> Mapping[str, Variable]:
        tries.append(task.id)
        if len(tries) == 1:
            raise RetryLater(timedelta(), "at once")
        return {}

    worked(engine, handler, until=lambda: "complete" in engine.calls)

    assert engine.calls == ["failure", "complete"]
