"""Handlers that count their calls, topics with such handlers, and the metrics of their outcomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Lock
from typing import Any

from tests.support.engines import DeployedProcess
from tests.support.metrics import metric
from workers.pod.pod import Handler, Task, Topic
from workers.runtime.variables import Variable

POLL_OF_NO_USE = timedelta(seconds=120)  # longer than any test waits, so a task that comes by this poll comes too late


def topics(process: DeployedProcess, handler: Handler, **options: Any) -> Mapping[str, Topic]:
    return {process.topic: Topic(name=process.topic, handler=handler, **options)}


class Calls:
    """A handler that counts its calls, then behaves as the test says."""

    def __init__(self, behaviour: Callable[[Task], Mapping[str, Variable]] = lambda _: {}) -> None:
        self._behaviour = behaviour
        self._lock = Lock()
        self.tasks: list[Task] = []
        self.times: list[float] = []

    def __call__(self, task: Task) -> Mapping[str, Variable]:
        with self._lock:
            self.tasks.append(task)
            self.times.append(time.monotonic())
        return self._behaviour(task)


def fails(times: int, exception: BaseException) -> Calls:
    calls = Calls()

    def behaviour(_: Task) -> Mapping[str, Variable]:
        if len(calls.tasks) <= times:
            raise exception
        return {}

    calls._behaviour = behaviour
    return calls


def outcomes(process: DeployedProcess, outcome: str) -> float:
    return metric("q2o_external_task_duration_seconds_count", topic=process.topic, outcome=outcome)
