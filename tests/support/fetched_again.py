"""An engine that hands out a task a second time before it replies to the report of the first time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import timedelta
from threading import Event, Thread

from tests.support.answering import Reply, Request, answering
from tests.support.waiting import eventually
from workers.pod.contract import Task, Topic
from workers.pod.pod import Pod
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

TOPIC = "order.decompose"
TASK = {
    "id": "first",
    "topicName": TOPIC,
    "processInstanceId": "i",
    "activityId": "a",
    "activityInstanceId": "a:1",
    "executionId": "e",
}
REPORTS = ("complete", "failure", "bpmnError")


class FetchedAgain:
    """Offers its task in two fetches, and replies to a report when the pod has taken in both. `calls`: what the pod then asked."""

    def __init__(self) -> None:
        self._fetches = 0
        self._taken_in = Event()
        self.calls: list[str] = []

    def answer(self, request: Request) -> Reply:
        what = request.path.rpartition("/")[2]
        if what == "fetchAndLock":
            return self._fetched(request)
        if what in REPORTS:
            self._taken_in.wait()
        self.calls.append(what)
        return Reply(status=204)

    def _fetched(self, request: Request) -> Reply:
        if b"q2o.no-topic" in request.body:
            return Reply(body=b"[]")  # it ends a poll
        self._fetches += 1
        if self._fetches > 2:
            self._taken_in.set()
        return Reply(body=json.dumps([TASK] if self._fetches <= 2 else []).encode())


def worked(engine: FetchedAgain, handler: Callable[[Task], Mapping[str, Variable]], until: Callable[[], object]) -> None:
    """Let a pod work on what the engine offers, and end when it has nothing left to do."""
    stop = Event()
    with answering(engine.answer) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as door:
        pod = Pod(door, {TOPIC: Topic(name=TOPIC, handler=handler)}, poll=timedelta(milliseconds=50))
        loop = Thread(target=pod.run, args=(stop,))
        loop.start()
        try:
            eventually(until, "the pod has worked")
        finally:
            stop.set()
            loop.join(60)
