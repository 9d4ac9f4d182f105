"""A pod extends the locks of its tasks, notices a lost one, locks again, and never runs a task twice at once."""

from __future__ import annotations

from datetime import timedelta
from threading import Event

import pytest

from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import Calls, fails, outcomes, topics
from tests.support.metrics import metric
from tests.support.models import one_task
from tests.support.waiting import PATIENCE, eventually
from workers.pod.pod import Pod, RetryLater, Task

pytestmark = pytest.mark.stack

SHORT_LOCK = timedelta(seconds=1.5)


def test_a_handler_that_outlives_its_lock_runs_once(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    signs = Calls()
    mine = Pod(doors.direct(), topics(process, calls, heartbeat=signs), lock_duration=SHORT_LOCK)
    rival = Pod(doors.direct(), topics(process, calls), lock_duration=SHORT_LOCK, poll=timedelta(seconds=0.2))

    with running(mine):
        eventually(lambda: calls.tasks, "the handler runs")
        with running(rival):
            # Eight thirds of a lock: without extensions the rival would have fetched the task by now.
            eventually(lambda: len(signs.tasks) >= 8, "the lock is extended again and again")
            release.set()
            process.reaches(instance, "done")

    assert len(calls.tasks) == 1
    assert signs.tasks[0].id == calls.tasks[0].id


def test_a_heartbeat_that_fails_does_not_cost_the_lock(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    release = Event()
    signs = fails(1000, ConnectionError("database away"))
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})

    def sign(task: Task) -> None:
        signs(task)

    with running(Pod(doors.direct(), topics(process, calls, heartbeat=sign), lock_duration=SHORT_LOCK)):
        instance = process.start()
        eventually(lambda: len(signs.tasks) >= 4, "four signs are tried")
        release.set()
        process.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_task_that_another_worker_took_is_not_reported(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine, proxy = doors.through_proxy()
    slow_release, rival_release = Event(), Event()
    slow = Calls(lambda task: {"winner": f"slow {slow_release.wait(PATIENCE) and task.cancelled.is_set()}"})
    rival = Calls(lambda _: {"winner": f"rival {rival_release.wait(PATIENCE)}"})
    reports: list[bytes] = []
    proxy.drop_request(lambda request: _noted(reports, request, b"/complete", b"/failure", b"/bpmnError"))
    proxy.drop_request("/extendLock", times=1000)

    # At its capacity the pod does not poll, so it cannot get its own task back.
    with running(Pod(engine, topics(process, slow), lock_duration=SHORT_LOCK, capacity=1)):
        eventually(lambda: slow.tasks, "the slow handler runs")
        with running(Pod(doors.direct(), topics(process, rival), lock_duration=timedelta(seconds=20), poll=timedelta(seconds=0.2))):
            eventually(lambda: rival.tasks, "the rival takes the expired task")
            slow_release.set()
            eventually(lambda: outcomes(process, "lock_lost") == 1, "the slow pod sees that it lost")
            rival_release.set()
            process.reaches(instance, "done")

    assert reports == []
    assert metric("q2o_external_task_lock_lost_total", topic=process.topic) == 1
    rows = process.engine.rows("/history/variable-instance", processInstanceId=instance, variableName="winner")
    assert [row["value"] for row in rows] == ["rival True"]


def test_a_heartbeat_notices_that_the_instance_was_cancelled(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    calls = Calls(lambda task: {"cancelled": task.cancelled.wait(PATIENCE)})

    with running(Pod(doors.direct(), topics(process, calls), lock_duration=SHORT_LOCK)):
        eventually(lambda: calls.tasks, "the handler runs")
        process.engine.delete_instance(instance, "withdrawn")
        eventually(lambda: outcomes(process, "gone") == 1, "the handler is told and its result dropped")


def test_an_expired_lock_that_no_worker_took_is_taken_again_for_the_report(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine, proxy = doors.through_proxy()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    proxy.drop_request("/extendLock", times=1000)

    with running(Pod(engine, topics(process, calls), lock_duration=timedelta(seconds=0.5))):
        eventually(lambda: calls.tasks, "the handler runs")
        eventually(lambda: proxy.faults["drop_request"] >= 12, "extensions fail beyond the end of the lock")
        # The next poll of the pod may fetch the task as well; it runs once in both cases.
        release.set()
        process.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_pod_that_fetches_its_own_task_again_does_not_run_it_twice(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    proxy.drop_request("/extendLock", times=1000)
    fetched = metric("q2o_external_task_polls_total", result="tasks")

    with running(Pod(engine, topics(process, calls), lock_duration=timedelta(seconds=0.5), poll=timedelta(seconds=0.1))):
        instance = process.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="tasks") >= fetched + 3, "it is fetched again and again")
        release.set()
        process.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_task_that_is_due_before_the_reply_to_its_failure_runs_after_the_reply(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    answer = Event()
    proxy.hold("/failure", answer)
    calls = fails(1, RetryLater(timedelta(), "at once"))
    fetched = metric("q2o_external_task_polls_total", result="tasks")

    with running(Pod(engine, topics(process, calls), lock_duration=timedelta(hours=1), poll=timedelta(seconds=0.1))):
        instance = process.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="tasks") >= fetched + 2, "it is fetched again")
        assert len(calls.tasks) == 1
        answer.set()
        process.reaches(instance, "done")

    assert len(calls.tasks) == 2


def _noted(notes: list[bytes], request: bytes, *paths: bytes) -> bool:
    """Record a request for one of the paths, and let it pass."""
    line = request.split(b"\r\n", 1)[0]
    if any(path in line for path in paths):
        notes.append(line)
    return False
