"""A pod whose requests or responses are lost, whose engine is away, or whose reports collide."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier

import pytest

from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import POLL_OF_NO_USE, Calls, fails, outcomes, topics
from tests.support.metrics import metric
from tests.support.models import one_task, two_branches
from tests.support.waiting import PATIENCE, eventually
from workers.pod.pod import BpmnError, Pod, RetryLater

pytestmark = pytest.mark.stack


def test_a_completion_without_a_reply_is_settled_without_a_second_run(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine, proxy = doors.through_proxy()
    proxy.drop_response("/complete")
    calls = Calls()
    pod = Pod(engine, topics(process, calls))

    assert (pod.run_once(), pod.run_once()) == (1, 0)

    assert proxy.faults == {"drop_response": 1}
    assert process.end_of(instance) == "done"
    assert (len(calls.tasks), outcomes(process, "completed")) == (1, 1)


def test_tasks_that_were_locked_by_a_poll_without_a_reply_come_back_at_once(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    waits = fails(1, RetryLater(timedelta(hours=1), "later"))
    waiting = process.start()

    with running(Pod(engine, topics(process, waits), lock_duration=timedelta(hours=1), poll=timedelta(seconds=0.5))):
        eventually(lambda: outcomes(process, "postponed") == 1, "one task waits for its next attempt")
        proxy.drop_response("/fetchAndLock")
        eventually(lambda: proxy.faults["drop_response"] == 1, "a poll waits whose answer will be lost")
        instance = process.start()
        process.reaches(instance, "done")

    assert process.end_of(waiting) is None


@pytest.mark.parametrize("path", ["/complete", "/failure", "/bpmnError"])
def test_a_report_whose_request_was_lost_is_sent_again(deploy: Deployer, doors: Doors, path: str) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine, proxy = doors.through_proxy()
    proxy.drop_request(path, times=2)
    behaviour = {"/complete": Calls(), "/failure": fails(1, ValueError("once")), "/bpmnError": fails(1, BpmnError("REFUSED", "no"))}
    pod = Pod(engine, topics(process, behaviour[path], errors=("REFUSED",)), poll=POLL_OF_NO_USE)

    with running(pod):
        process.reaches(instance, "refused" if path == "/bpmnError" else "done")

    assert proxy.faults == {"drop_request": 2}
    assert process.failures(instance) == (1 if path == "/failure" else 0)


def test_branches_that_end_at_once_both_complete(deploy: Deployer, doors: Doors) -> None:
    process = deploy(two_branches)
    meeting = Barrier(2)
    calls = Calls(lambda _: {"met": meeting.wait(PATIENCE) >= 0})
    pod = Pod(doors.direct(), topics(process, calls), capacity=2)
    collisions = metric("q2o_external_task_report_retries_total", operation="complete", reason="concurrency")

    for _ in range(10):
        instance = process.start()
        assert pod.run_once() == 2
        assert process.end_of(instance) == "done"
        assert process.failures(instance) == 0

    # Without a collision the test would prove nothing.
    assert metric("q2o_external_task_report_retries_total", operation="complete", reason="concurrency") > collisions


def test_an_outage_of_the_engine_is_waited_out(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    errors = metric("q2o_external_task_polls_total", result="error")

    with running(Pod(engine, topics(process, Calls()), poll=timedelta(seconds=0.2))):
        process.reaches(process.start(), "done")
        proxy.down()
        instance = process.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="error") > errors, "a poll fails")
        proxy.up()
        process.reaches(instance, "done")
