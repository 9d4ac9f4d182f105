"""The report of a task's outcome is sent so often as the table of retries says, and then given up."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta
from itertools import count

import pytest

from domain.retry_rules import REPORT_FAULT, REPORT_RACE, REPORT_SILENCE, RetryRule
from tests.support.answering import Reply, Request, answering
from tests.unit.test_outcomes import fetched
from workers.pod.contract import Topic
from workers.pod.lease import Lease
from workers.pod.outcomes import Completed
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


class Door:
    """An engine in which the task is locked for us, and which answers every report with `reply` (None: with silence)."""

    def __init__(self, reply: Reply | None) -> None:
        self.reply = reply
        self.reports = {"complete": 0, "failure": 0}

    def answer(self, request: Request) -> Reply | None:
        what = request.path.rpartition("/")[2]
        if what in self.reports:
            self.reports[what] += 1
            return self.reply
        return Reply(status=204) if what == "lock" else Reply(body=json.dumps(HELD).encode())


def settled_at(door: Door, duration: timedelta) -> Settled:
    seconds = count()
    lease = Lease(
        fetched(), Topic(name="order.decompose", handler=lambda _: {}), duration, requested_at=0, clock=lambda: next(seconds)
    )
    with (
        answering(door.answer) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password", WORKER)) as engine,
    ):
        settled, _ = Reporter(engine, clock=lambda: next(seconds), pause=lambda _: None).report(lease, Completed(variables={}))
    return settled


@pytest.mark.parametrize(("code", "rule"), [(1, REPORT_RACE), (None, REPORT_FAULT)], ids=["race", "fault"])
def test_a_report_is_sent_so_often_and_then_given_up(code: int | None, rule: RetryRule) -> None:
    error = {"type": "OptimisticLockingException", "message": "no", "code": code}
    door = Door(Reply(status=500, body=json.dumps(error).encode()))

    settled = settled_at(door, timedelta(days=1))

    assert (settled, door.reports) == (Settled.UNREPORTED, {"complete": rule.attempts, "failure": rule.attempts})


def test_a_report_without_a_reply_is_sent_so_often_after_its_lock_has_expired() -> None:
    door = Door(Reply(status=400, body=b"<html>of a gateway</html>"))

    settled = settled_at(door, timedelta(seconds=1))

    assert (settled, door.reports["complete"] <= REPORT_SILENCE.attempts) == (Settled.UNREPORTED, True)
