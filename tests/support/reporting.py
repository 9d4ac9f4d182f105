"""An engine to which a pod reports, and which answers reports as a test says."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from itertools import count
from typing import Any

from tests.support.answering import Reply, Request, answering
from tests.unit.test_outcomes import fetched
from workers.pod.contract import Topic
from workers.pod.lease import Lease
from workers.pod.outcomes import Outcome
from workers.pod.report import Reporter, Settled
from workers.runtime.engine import Engine

WORKER = "q2o-host-01234567"
HELD = {
    "id": "task-1",
    "topicName": "order.decompose",
    "workerId": WORKER,
    "processInstanceId": "i",
    "activityId": "a",
    "activityInstanceId": "a:1",
    "executionId": "e",
}
DONE = Reply(status=204)
PAGE = Reply(status=502, body=b"<html>of a gateway</html>")


def refusing(status: int, code: int | None = None) -> Reply:
    """The engine's own refusal."""
    return Reply(status=status, body=json.dumps({"type": "ProcessEngineException", "message": "no", "code": code}).encode())


class Door:
    """An engine in which the task is locked for us. `report` answers each report (its last word: complete, failure, bpmnError) and sees its
    body, `lock` and `task` answer every other question about the task. None: silence.
    """

    def __init__(self, report: Callable[[str, dict[str, Any]], Reply | None]) -> None:
        self._report = report
        self.lock: Reply | None = DONE
        self.task: Reply | None = Reply(body=json.dumps(HELD).encode())
        self.reports: dict[str, int] = {}

    def answer(self, request: Request) -> Reply | None:
        what = request.path.rpartition("/")[2]
        if what == "lock":
            return self.lock
        if what == HELD["id"]:
            return self.task
        self.reports[what] = self.reports.get(what, 0) + 1
        return self._report(what, json.loads(request.body))


def reported(door: Door, outcome: Outcome, duration: timedelta = timedelta(days=1), **task: Any) -> tuple[Settled, Outcome]:
    """Report an outcome of a task that is locked for this time. Each look at the clock takes a second, and no pause takes any time."""
    seconds = count()
    topic = Topic(name="order.decompose", handler=lambda _: {})
    lease = Lease(fetched(**task), topic, duration, requested_at=0, clock=lambda: next(seconds))
    with (
        answering(door.answer) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password", WORKER)) as engine,
    ):
        return Reporter(engine, clock=lambda: next(seconds), pause=lambda _: None).report(lease, outcome)
