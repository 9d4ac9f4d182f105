"""What one task or one answer of the engine raises ends neither the poll, nor the locks of the other tasks, nor the pod."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event, Thread
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests.support.answering import Reply, Request, answering
from tests.support.metrics import metric
from tests.support.waiting import eventually
from tests.unit.test_outcomes import fetched
from workers.pod.contract import Topic
from workers.pod.heartbeat import Heartbeat
from workers.pod.lease import Lease
from workers.pod.places import NOTHING
from workers.pod.pod import Pod
from workers.pod.polls import Polls
from workers.runtime.engine import Engine

TOPIC = "order.decompose"
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def set_aside(item: str) -> float:
    return metric("q2o_items_set_aside_total", loop="tasks", item=item)


def row(task_id: str, **changes: Any) -> dict[str, Any]:
    ids = {"processInstanceId": "i", "activityId": "a", "activityInstanceId": "a:1", "executionId": "e"}
    return {"id": task_id, "topicName": TOPIC, **ids, **changes}


@dataclass
class FakeEngine:
    """Answers fetches with `fetches`, one after the other, and then with no task; notes which tasks were completed."""

    fetches: list[Any]
    completed: list[str] = field(default_factory=list)

    def answer(self, request: Request) -> Reply:
        if request.path.endswith("/fetchAndLock") and b"q2o.no-topic" in request.body:
            return Reply(body=b"[]")  # it ends a poll
        if request.path.endswith("/fetchAndLock"):
            return Reply(body=json.dumps(self.fetches.pop(0) if self.fetches else []).encode())
        if "/external-task?" in request.path:
            return Reply(body=b"[]")  # no task is locked
        if request.path.endswith("/complete"):
            self.completed.append(request.path.split("/")[-2])
        return Reply(status=204)


def worked(fetches: list[Any], until: Callable[[FakeEngine], object]) -> FakeEngine:
    """Let a pod work on what the engine answers."""
    fake, stop = FakeEngine(fetches), Event()
    with answering(fake.answer) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        pod = Pod(engine, {TOPIC: Topic(name=TOPIC, handler=lambda _: {})}, poll=timedelta(milliseconds=50))
        loop = Thread(target=pod.run, args=(stop,))
        loop.start()
        try:
            eventually(lambda: until(fake) or not loop.is_alive(), "the pod has worked")
            assert loop.is_alive()
        finally:
            stop.set()
            loop.join(30)
    return fake


@pytest.mark.parametrize("poison", [{}, {"id": "poisoned"}, "no task", row("poisoned", topicName="another.topic")])
def test_a_task_that_is_not_understood_leaves_the_others_of_its_fetch(poison: object) -> None:
    before = set_aside("task")

    fake = worked([[poison, row("sound")]], lambda fake: fake.completed)

    assert fake.completed == ["sound"]
    assert set_aside("task") == before + 1


@pytest.mark.parametrize("answer", [7, True])
def test_an_answer_that_is_not_understood_ends_no_pod(answer: object) -> None:
    fake = worked([answer, [row("sound")]], lambda fake: fake.completed)

    assert fake.completed == ["sound"]


class FailingFor:
    """An engine that cannot extend the lock of one task."""

    def __init__(self, poisoned: str) -> None:
        self._poisoned = poisoned
        self.asked: list[str] = []
        self.ended_polls = 0

    def extend_lock(self, task_id: str, *_: object, **__: object) -> None:
        self.asked.append(task_id)
        if task_id == self._poisoned:
            raise KeyError("no such member")

    def end_poll(self) -> None:
        self.ended_polls += 1
        raise KeyError("no such member")


def lease(task_id: str) -> Lease:
    topic = Topic(name=TOPIC, handler=lambda _: {})
    return Lease(fetched(id=task_id), topic, timedelta(milliseconds=60), requested_at=-1.0)


def test_the_locks_of_other_tasks_are_kept_when_that_of_one_cannot_be() -> None:
    engine, before = FailingFor("poisoned"), set_aside("lock")
    heartbeat = Heartbeat(cast("Engine", engine))
    heartbeat.start()

    for task_id in ("poisoned", "sound"):
        heartbeat.keep(lease(task_id))
    eventually(lambda: engine.asked.count("sound") >= 3 and engine.asked.count("poisoned") >= 2, "both are tried again and again")

    heartbeat.stop()
    assert set_aside("lock") > before


def test_a_poll_that_cannot_be_ended_is_tried_again() -> None:
    engine = FailingFor("none")
    polls = Polls(cast("Engine", engine), SECOND, in_flight=list, offer=lambda: NOTHING)
    polls._ends_at = float("inf")
    polls.start()

    polls.finish()
    eventually(lambda: engine.ended_polls >= 2, "it is tried again")

    polls.stop()
