"""A pod starts under a worker id of its own, needs few connections, and stops without losing its tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from threading import Event

import pytest

from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import POLL_OF_NO_USE, Calls, topics
from tests.support.models import one_task
from tests.support.waiting import PATIENCE, eventually
from workers.pod.pod import Pod, Task, WorkerIdError
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack


def test_a_worker_id_that_may_be_shared_is_refused(doors: Doors) -> None:
    environment = doors.environment
    shared = Engine(environment["Q2O_ENGINE_URL"], environment["Q2O_ENGINE_USER"], environment["Q2O_ENGINE_PASSWORD"], "pod")

    with pytest.raises(WorkerIdError, match="leave it out"):
        Pod(shared, {})
    shared.close()


def test_a_second_pod_on_the_same_worker_id_is_refused(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine = doors.direct()
    started, release = Event(), Event()

    def slow(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    process.start()
    with running(Pod(engine, topics(process, slow), poll=POLL_OF_NO_USE)):
        assert started.wait(PATIENCE)
        with pytest.raises(WorkerIdError, match="its own Engine"):
            Pod(engine, topics(process, slow))
        release.set()


def test_a_pod_needs_few_connections(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    instances = [process.start() for _ in range(40)]

    with running(Pod(engine, topics(process, Calls()), capacity=4)):
        for instance in instances:
            process.reaches(instance, "done")

    assert proxy.requests >= 40
    # Four handlers, the poll, the heartbeat and the request that ends the last poll.
    assert proxy.connections <= 7


def test_a_stopping_pod_gives_back_the_tasks_of_its_last_poll(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine, proxy = doors.through_proxy()
    calls, answer = Calls(), Event()
    proxy.hold("/fetchAndLock", answer)
    pod = Pod(engine, topics(process, calls))

    with running(pod, after_stop=answer.set):
        eventually(lambda: process.task(instance)["workerId"] == engine.worker_id, "the poll locks the task")

    assert process.task(instance)["workerId"] is None
    assert calls.tasks == []


def test_a_stopping_pod_lets_handlers_finish(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    started, release = Event(), Event()

    def slow(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    with running(Pod(doors.direct(), topics(process, slow), poll=POLL_OF_NO_USE), after_stop=release.set):
        assert started.wait(PATIENCE)

    assert process.end_of(instance) == "done"


def test_a_handler_that_ends_on_a_stop_costs_no_retry(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    started = Event()

    def ends_on_stop(task: Task) -> Mapping[str, Variable]:
        started.set()
        task.cancelled.wait(PATIENCE)
        raise InterruptedError

    with running(Pod(doors.direct(), topics(process, ends_on_stop), drain_timeout=timedelta(seconds=0.2), poll=POLL_OF_NO_USE)):
        assert started.wait(PATIENCE)

    task = process.task(instance)
    assert (task["workerId"], task["retries"]) == (None, None)


def test_a_handler_that_does_not_end_keeps_its_lock_and_does_not_stop_the_pod_from_ending(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    engine = doors.direct()
    started, release = Event(), Event()

    def stubborn(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    pod = Pod(engine, topics(process, stubborn), drain_timeout=timedelta(seconds=0.1), cancel_grace=timedelta(seconds=0.1))
    with running(pod):
        assert started.wait(PATIENCE)

    assert process.task(instance)["workerId"] == engine.worker_id
    release.set()
    process.reaches(instance, "done")
