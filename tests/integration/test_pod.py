from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Barrier, Event, Lock
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.support.engines import Deployer, Doors, Scene, running
from tests.support.models import broken_after_task, one_task, two_branches
from tests.support.waiting import PATIENCE, eventually
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.pod import BpmnError, GiveUp, Handler, Pod, RetryLater, Task, Topic, WorkerIdError

pytestmark = pytest.mark.stack

SHORT_LOCK = timedelta(seconds=1.5)
POLL_OF_NO_USE = timedelta(seconds=120)  # longer than any test waits: what it brings late is a failure


def topics(scene: Scene, handler: Handler, **options: Any) -> Mapping[str, Topic]:
    return {scene.topic: Topic(name=scene.topic, handler=handler, **options)}


class Calls:
    """A handler that counts its calls and then does what it was given."""

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


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def outcomes(scene: Scene, outcome: str) -> float:
    return metric("q2o_external_task_duration_seconds_count", topic=scene.topic, outcome=outcome)


def test_a_task_is_completed_with_typed_variables(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    calls = Calls(lambda task: {"levels": [{"level": task.variables["amount"] + 1}], "approved": True})
    instance = built.start(amount=41)

    assert Pod(doors.direct(), topics(built, calls, variables=("amount",))).run_once() == 1

    assert built.end_of(instance) == "done"
    (task,) = calls.tasks
    assert (task.process_instance_id, task.activity_id, task.properties) == (instance, "work", {"retryPolicy": "R3/PT0.2S"})
    rows = built.engine.get("/history/variable-instance", processInstanceId=instance, deserializeValues="false")
    assert {row["name"]: (row["type"], row["value"]) for row in rows} == {
        "amount": ("Integer", 41),
        "levels": ("Json", '[{"level":42}]'),
        "approved": ("Boolean", True),
    }


def test_only_declared_variables_are_fetched(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    calls = Calls()
    built.start(amount=1, secret="not for this task")

    Pod(doors.direct(), topics(built, calls, variables=("amount", "absent"))).run_once()

    assert calls.tasks[0].variables == {"amount": 1}


def test_a_bpmn_error_takes_the_path_that_the_model_gives_it(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()

    Pod(doors.direct(), topics(built, fails(1, BpmnError("REFUSED", "too late")), errors=("REFUSED",))).run_once()

    assert built.end_of(instance) == "refused"
    assert outcomes(built, "bpmn_error") == 1


def test_an_undeclared_bpmn_error_is_an_incident_and_not_the_silent_end_of_the_process(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()

    Pod(doors.direct(), topics(built, fails(1, BpmnError("REFUSD", "too late")), errors=("REFUSED",))).run_once()

    assert "'REFUSD' (too late), which it does not declare (declared: REFUSED)" in built.incident(instance)


def test_a_failure_is_retried_after_its_wait_although_the_poll_is_long(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    calls = fails(2, ValueError("not yet"))
    pod = Pod(doors.direct(), topics(built, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        built.reaches(built.start(), "done")

    assert [task.retries for task in calls.tasks] == [None, 2, 1]
    first, second, third = calls.times
    assert second - first >= 0.2
    assert third - second >= 0.4
    assert (outcomes(built, "failed"), outcomes(built, "completed")) == (2, 1)


def test_the_last_failure_is_an_incident_that_says_what_to_do(scene: Deployer, doors: Doors) -> None:
    built = scene(lambda key, topic: one_task(key, topic, "R1/PT1S"))
    instance = built.start()

    Pod(doors.direct(), topics(built, fails(1, ValueError("x" * 2000)))).run_once()

    message = built.incident(instance)
    assert len(message) <= 666
    assert message.startswith(f"{built.topic}: ValueError: xxx")
    assert message.endswith(
        "Retrying is safe: the task repeats under the same ids and keys. Next: remove the cause, then press retry on the incident in Cockpit."
    )
    details = built.engine._session.get(
        f"{built.engine.url}/external-task/{built.task_id(instance)}/errorDetails", timeout=PATIENCE
    )
    assert "Traceback" in details.text


def test_giving_up_is_an_incident_at_once_and_an_operator_s_retry_goes_on(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    calls = fails(1, GiveUp("customer 7 has no address"))
    pod = Pod(doors.direct(), topics(built, calls), poll=POLL_OF_NO_USE)
    assert pod.run_once() == 1
    assert built.incident(instance).startswith("customer 7 has no address. Not retried")
    assert pod.run_once() == 0

    built.engine.set_retries(built.task_id(instance), 1)

    assert pod.run_once() == 1
    assert built.end_of(instance) == "done"
    assert built.engine.get("/incident", processInstanceId=instance) == []


def test_retry_later_uses_no_attempt(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    calls = fails(5, RetryLater(timedelta(seconds=0.05), "the attempt before is still running"))
    pod = Pod(doors.direct(), topics(built, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        built.reaches(built.start(), "done")

    assert [task.retries for task in calls.tasks] == [None, 3, 3, 3, 3, 3]
    assert (outcomes(built, "postponed"), outcomes(built, "failed")) == (5, 0)


def test_retry_without_a_wait_is_fetched_again_by_the_same_pod(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    calls = fails(20, RetryLater(timedelta(), "again"))
    pod = Pod(doors.direct(), topics(built, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        built.reaches(built.start(), "done")

    assert len(calls.tasks) == 21


def test_what_cannot_be_sent_is_an_incident(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()

    Pod(doors.direct(), topics(built, Calls(lambda _: {"amount": float("nan")}))).run_once()

    assert "variable 'amount' is nan" in built.incident(instance)


def test_a_missing_variable_is_an_incident_that_names_it(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()

    Pod(doors.direct(), topics(built, Calls(lambda task: {"x": task.text("quoteId")}), variables=("quoteId",))).run_once()

    assert "'quoteId' must be a text, it is None" in built.incident(instance)


def test_a_handler_that_outlives_its_lock_runs_once(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    signs = Calls()
    mine = Pod(doors.direct(), topics(built, calls, heartbeat=signs), lock_duration=SHORT_LOCK)
    rival = Pod(doors.direct(), topics(built, calls), lock_duration=SHORT_LOCK, poll=timedelta(seconds=0.2))

    with running(mine):
        eventually(lambda: calls.tasks, "the handler runs")
        with running(rival):
            # Eight thirds of a lock: without extensions the rival would have had it long ago.
            eventually(lambda: len(signs.tasks) >= 8, "the lock is extended again and again")
            release.set()
            built.reaches(instance, "done")

    assert len(calls.tasks) == 1
    assert signs.tasks[0].id == calls.tasks[0].id


def test_a_sign_of_life_that_fails_does_not_cost_the_lock(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    release = Event()
    signs = fails(1000, ConnectionError("database away"))
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})

    def sign(task: Task) -> None:
        signs(task)

    with running(Pod(doors.direct(), topics(built, calls, heartbeat=sign), lock_duration=SHORT_LOCK)):
        instance = built.start()
        eventually(lambda: len(signs.tasks) >= 4, "four signs are tried")
        release.set()
        built.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_task_that_another_worker_took_is_not_reported(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    engine, proxy = doors.through_proxy()
    slow_release, rival_release = Event(), Event()
    slow = Calls(lambda task: {"winner": f"slow {slow_release.wait(PATIENCE) and task.cancelled.is_set()}"})
    rival = Calls(lambda _: {"winner": f"rival {rival_release.wait(PATIENCE)}"})
    reports: list[bytes] = []
    proxy.drop_request(lambda request: _noted(reports, request, b"/complete", b"/failure", b"/bpmnError"))
    proxy.drop_request("/extendLock", times=1000)

    # At its capacity it does not poll, which could bring it its own task back.
    with running(Pod(engine, topics(built, slow), lock_duration=SHORT_LOCK, capacity=1)):
        eventually(lambda: slow.tasks, "the slow handler runs")
        with running(Pod(doors.direct(), topics(built, rival), lock_duration=timedelta(seconds=20), poll=timedelta(seconds=0.2))):
            eventually(lambda: rival.tasks, "the rival takes the expired task")
            slow_release.set()
            eventually(lambda: outcomes(built, "lock_lost") == 1, "the slow pod sees that it lost")
            rival_release.set()
            built.reaches(instance, "done")

    assert reports == []
    assert metric("q2o_external_task_lock_lost_total", topic=built.topic) == 1
    rows = built.engine.get("/history/variable-instance", processInstanceId=instance, variableName="winner")
    assert [row["value"] for row in rows] == ["rival True"]


def test_a_heartbeat_notices_that_the_instance_was_cancelled(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    calls = Calls(lambda task: {"cancelled": task.cancelled.wait(PATIENCE)})

    with running(Pod(doors.direct(), topics(built, calls), lock_duration=SHORT_LOCK)):
        eventually(lambda: calls.tasks, "the handler runs")
        built.engine.delete_instance(instance, "withdrawn")
        eventually(lambda: outcomes(built, "gone") == 1, "the handler is told and its result dropped")


def test_an_expired_lock_that_nobody_took_is_taken_again_for_the_report(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    engine, proxy = doors.through_proxy()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    proxy.drop_request("/extendLock", times=1000)
    locks: list[bytes] = []
    proxy.drop_request(lambda request: _noted(locks, request, b"/lock "))

    with running(Pod(engine, topics(built, calls), lock_duration=timedelta(seconds=0.5))):
        eventually(lambda: calls.tasks, "the handler runs")
        eventually(lambda: proxy.faults["drop_request"] >= 12, "extensions fail beyond the end of the lock")
        # The pod's own next poll may bring the task back too; either way it runs once.
        release.set()
        built.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_pod_that_is_given_its_own_task_again_does_not_start_it_twice(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine, proxy = doors.through_proxy()
    release = Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    proxy.drop_request("/extendLock", times=1000)
    fetched = metric("q2o_external_task_polls_total", result="tasks")

    with running(Pod(engine, topics(built, calls), lock_duration=timedelta(seconds=0.5), poll=timedelta(seconds=0.1))):
        instance = built.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="tasks") >= fetched + 3, "it is fetched again and again")
        release.set()
        built.reaches(instance, "done")

    assert len(calls.tasks) == 1


def test_a_task_that_is_due_before_its_failure_is_answered_is_started_afterwards(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine, proxy = doors.through_proxy()
    answer = Event()
    proxy.hold("/failure", answer)
    calls = fails(1, RetryLater(timedelta(), "at once"))
    fetched = metric("q2o_external_task_polls_total", result="tasks")

    with running(Pod(engine, topics(built, calls), lock_duration=timedelta(hours=1), poll=timedelta(seconds=0.1))):
        instance = built.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="tasks") >= fetched + 2, "it is fetched again")
        assert len(calls.tasks) == 1
        answer.set()
        built.reaches(instance, "done")

    assert len(calls.tasks) == 2


def test_a_lost_answer_to_complete_is_settled_without_a_second_run(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    engine, proxy = doors.through_proxy()
    proxy.drop_response("/complete")
    calls = Calls()
    pod = Pod(engine, topics(built, calls))

    assert (pod.run_once(), pod.run_once()) == (1, 0)

    assert proxy.faults == {"drop_response": 1}
    assert built.end_of(instance) == "done"
    assert (len(calls.tasks), outcomes(built, "completed")) == (1, 1)


def test_tasks_that_were_locked_for_a_lost_answer_come_back_at_once(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine, proxy = doors.through_proxy()
    waits = fails(1, RetryLater(timedelta(hours=1), "later"))
    waiting = built.start()

    with running(Pod(engine, topics(built, waits), lock_duration=timedelta(hours=1), poll=timedelta(seconds=0.5))):
        eventually(lambda: outcomes(built, "postponed") == 1, "one task waits for its next attempt")
        proxy.drop_response("/fetchAndLock")
        eventually(lambda: proxy.faults["drop_response"] == 1, "a poll waits whose answer will be lost")
        instance = built.start()
        built.reaches(instance, "done")

    assert built.end_of(waiting) is None


@pytest.mark.parametrize("path", ["/complete", "/failure", "/bpmnError"])
def test_a_report_that_got_lost_is_sent_again(scene: Deployer, doors: Doors, path: str) -> None:
    built = scene(one_task)
    instance = built.start()
    engine, proxy = doors.through_proxy()
    proxy.drop_request(path, times=2)
    behaviour = {"/complete": Calls(), "/failure": fails(1, ValueError("once")), "/bpmnError": fails(1, BpmnError("REFUSED", "no"))}
    pod = Pod(engine, topics(built, behaviour[path], errors=("REFUSED",)), poll=POLL_OF_NO_USE)

    with running(pod):
        built.reaches(instance, "refused" if path == "/bpmnError" else "done")

    assert proxy.faults == {"drop_request": 2}
    assert built.failures(instance) == (1 if path == "/failure" else 0)


def test_branches_that_end_at_the_same_moment_both_complete(scene: Deployer, doors: Doors) -> None:
    built = scene(two_branches)
    meeting = Barrier(2)
    calls = Calls(lambda _: {"met": meeting.wait(PATIENCE) >= 0})
    pod = Pod(doors.direct(), topics(built, calls), capacity=2)
    collisions = metric("q2o_external_task_report_retries_total", operation="complete", reason="concurrency")

    for _ in range(10):
        instance = built.start()
        assert pod.run_once() == 2
        assert built.end_of(instance) == "done"
        assert built.failures(instance) == 0

    # Without a collision this would have shown nothing.
    assert metric("q2o_external_task_report_retries_total", operation="complete", reason="concurrency") > collisions


def test_what_the_engine_cannot_carry_on_from_is_an_incident_in_its_own_words(scene: Deployer, doors: Doors) -> None:
    built = scene(broken_after_task)
    instance = built.start()

    Pod(doors.direct(), topics(built, Calls())).run_once()

    message = built.incident(instance)
    assert "the work is done, but the engine refuses its result" in message
    assert "nobodySetThis" in message


@pytest.mark.parametrize("exception", [RuntimeError("bug"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_whatever_a_handler_raises_the_pod_goes_on(scene: Deployer, doors: Doors, exception: BaseException) -> None:
    built = scene(one_task)
    calls = fails(1, exception)

    with running(Pod(doors.direct(), topics(built, calls), poll=POLL_OF_NO_USE)):
        built.reaches(built.start(), "done")
        built.reaches(built.start(), "done")

    assert len(calls.tasks) == 3


def test_a_poison_variable_stops_its_own_task_only(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    poisoned = built.start()
    form = {"objectTypeName": "com.example.Offer", "serializationDataFormat": "application/xml"}
    value = {"type": "Object", "value": "<offer/>", "valueInfo": form}
    built.engine.post(f"/process-instance/{poisoned}/variables", {"modifications": {"document": value}})
    healthy = built.start(document="fine")

    assert Pod(doors.direct(), topics(built, Calls(), variables=("document",))).run_once() == 2

    assert built.end_of(healthy) == "done"
    assert "variable 'document' is a serialised Java object" in built.incident(poisoned)


def test_an_outage_of_the_engine_is_waited_out(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine, proxy = doors.through_proxy()
    errors = metric("q2o_external_task_polls_total", result="error")

    with running(Pod(engine, topics(built, Calls()), poll=timedelta(seconds=0.2))):
        built.reaches(built.start(), "done")
        proxy.down()
        instance = built.start()
        eventually(lambda: metric("q2o_external_task_polls_total", result="error") > errors, "a poll fails")
        proxy.up()
        built.reaches(instance, "done")


def test_a_stopping_pod_gives_back_what_its_last_poll_brings(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    engine, proxy = doors.through_proxy()
    calls, answer = Calls(), Event()
    proxy.hold("/fetchAndLock", answer)
    pod = Pod(engine, topics(built, calls))

    with running(pod, after_stop=answer.set):
        eventually(lambda: built.task(instance)["workerId"] == engine.worker_id, "the poll locks the task")

    assert built.task(instance)["workerId"] is None
    assert calls.tasks == []


def test_a_stopping_pod_lets_handlers_finish(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    started, release = Event(), Event()

    def slow(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    with running(Pod(doors.direct(), topics(built, slow), poll=POLL_OF_NO_USE), after_stop=release.set):
        assert started.wait(PATIENCE)

    assert built.end_of(instance) == "done"


def test_a_handler_that_heeds_the_stop_costs_no_attempt(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    started = Event()

    def heeding(task: Task) -> Mapping[str, Variable]:
        started.set()
        task.cancelled.wait(PATIENCE)
        raise InterruptedError

    with running(Pod(doors.direct(), topics(built, heeding), drain_timeout=timedelta(seconds=0.2), poll=POLL_OF_NO_USE)):
        assert started.wait(PATIENCE)

    task = built.task(instance)
    assert (task["workerId"], task["retries"]) == (None, None)


def test_a_handler_that_does_not_end_keeps_its_lock_and_lets_the_pod_go(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    instance = built.start()
    engine = doors.direct()
    started, release = Event(), Event()

    def stubborn(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    pod = Pod(engine, topics(built, stubborn), drain_timeout=timedelta(seconds=0.1), cancel_grace=timedelta(seconds=0.1))
    with running(pod):
        assert started.wait(PATIENCE)

    assert built.task(instance)["workerId"] == engine.worker_id
    release.set()
    built.reaches(instance, "done")


def test_a_pod_needs_few_connections(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine, proxy = doors.through_proxy()
    instances = [built.start() for _ in range(40)]

    with running(Pod(engine, topics(built, Calls()), capacity=4)):
        for instance in instances:
            built.reaches(instance, "done")

    assert proxy.requests >= 40
    # Four handlers, the poll, the heartbeat and the request that ends the last poll.
    assert proxy.connections <= 7


def test_a_worker_id_that_may_be_shared_is_refused(doors: Doors) -> None:
    environment = doors.environment
    shared = Engine(environment["Q2O_ENGINE_URL"], environment["Q2O_ENGINE_USER"], environment["Q2O_ENGINE_PASSWORD"], "pod")

    with pytest.raises(WorkerIdError, match="leave it out"):
        Pod(shared, {})
    shared.close()


def test_a_second_pod_on_the_same_worker_id_is_refused(scene: Deployer, doors: Doors) -> None:
    built = scene(one_task)
    engine = doors.direct()
    started, release = Event(), Event()

    def slow(_: Task) -> Mapping[str, Variable]:
        started.set()
        return {"released": release.wait(PATIENCE)}

    built.start()
    with running(Pod(engine, topics(built, slow), poll=POLL_OF_NO_USE)):
        assert started.wait(PATIENCE)
        with pytest.raises(WorkerIdError, match="its own Engine"):
            Pod(engine, topics(built, slow))
        release.set()


def _noted(notes: list[bytes], request: bytes, *paths: bytes) -> bool:
    """Note a request for one of the paths, and let it pass."""
    line = request.split(b"\r\n", 1)[0]
    if any(path in line for path in paths):
        notes.append(line)
    return False
