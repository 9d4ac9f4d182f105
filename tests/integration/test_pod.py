"""The report of a task when its handler returns, fails, gives up or asks for time."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import POLL_OF_NO_USE, Calls, fails, outcomes, topics
from tests.support.models import broken_after_task, one_task
from tests.support.waiting import PATIENCE
from workers.pod.pod import BpmnError, GiveUp, Pod, RetryLater

pytestmark = pytest.mark.stack


def test_a_task_is_completed_with_typed_variables(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    calls = Calls(lambda task: {"levels": [{"level": task.variables["amount"] + 1}], "approved": True})
    instance = process.start(amount=41)

    assert Pod(doors.direct(), topics(process, calls, variables=("amount",))).run_once() == 1

    assert process.end_of(instance) == "done"
    (task,) = calls.tasks
    assert (task.process_instance_id, task.activity_id, task.properties) == (instance, "work", {"retryPolicy": "R3/PT0.2S"})
    rows = process.engine.rows("/history/variable-instance", processInstanceId=instance, deserializeValues="false")
    assert {row["name"]: (row["type"], row["value"]) for row in rows} == {
        "amount": ("Integer", 41),
        "levels": ("Json", '[{"level":42}]'),
        "approved": ("Boolean", True),
    }


def test_only_declared_variables_are_fetched(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    calls = Calls()
    process.start(amount=1, secret="not for this task")

    Pod(doors.direct(), topics(process, calls, variables=("amount", "absent"))).run_once()

    assert calls.tasks[0].variables == {"amount": 1}


def test_a_bpmn_error_takes_the_path_that_the_model_gives_it(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()

    Pod(doors.direct(), topics(process, fails(1, BpmnError("REFUSED", "too late")), errors=("REFUSED",))).run_once()

    assert process.end_of(instance) == "refused"
    assert outcomes(process, "bpmn_error") == 1


def test_an_undeclared_bpmn_error_is_an_incident_and_not_the_silent_end_of_the_process(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()

    Pod(doors.direct(), topics(process, fails(1, BpmnError("REFUSD", "too late")), errors=("REFUSED",))).run_once()

    assert "'REFUSD' (too late), which it does not declare (declared: REFUSED)" in process.incident(instance)


def test_a_failure_is_retried_after_its_wait_although_the_poll_is_long(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    calls = fails(2, ValueError("not yet"))
    pod = Pod(doors.direct(), topics(process, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        process.reaches(process.start(), "done")

    assert [task.retries for task in calls.tasks] == [None, 2, 1]
    first, second, third = calls.times
    assert second - first >= 0.2
    assert third - second >= 0.4
    assert (outcomes(process, "failed"), outcomes(process, "completed")) == (2, 1)


def test_the_last_failure_is_an_incident_that_says_what_to_do(deploy: Deployer, doors: Doors) -> None:
    process = deploy(lambda key, topic: one_task(key, topic, "R1/PT1S"))
    instance = process.start()

    Pod(doors.direct(), topics(process, fails(1, ValueError("x" * 2000)))).run_once()

    message = process.incident(instance)
    assert len(message) <= 666
    assert message.startswith(f"{process.topic}: ValueError: xxx")
    assert message.endswith(
        "Retrying is safe: the task repeats under the same ids and keys. Next: remove the cause, then press retry on the incident in Cockpit."
    )
    details = process.engine._session.get(
        f"{process.engine.url}/external-task/{process.task_id(instance)}/errorDetails", timeout=PATIENCE
    )
    assert "Traceback" in details.text


def test_giving_up_makes_an_incident_at_once_and_the_retry_of_an_operator_runs_the_task(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()
    calls = fails(1, GiveUp("customer 7 has no address"))
    pod = Pod(doors.direct(), topics(process, calls), poll=POLL_OF_NO_USE)
    assert pod.run_once() == 1
    assert process.incident(instance).startswith("customer 7 has no address. Not retried")
    assert pod.run_once() == 0

    process.engine.set_retries(process.task_id(instance), 1)

    assert pod.run_once() == 1
    assert process.end_of(instance) == "done"
    assert process.engine.rows("/incident", processInstanceId=instance) == []


def test_retry_later_costs_no_retry_of_the_engine(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    calls = fails(5, RetryLater(timedelta(seconds=0.05), "the attempt before is still running"))
    pod = Pod(doors.direct(), topics(process, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        process.reaches(process.start(), "done")

    assert [task.retries for task in calls.tasks] == [None, 3, 3, 3, 3, 3]
    assert (outcomes(process, "postponed"), outcomes(process, "failed")) == (5, 0)


def test_retry_without_a_wait_is_fetched_again_by_the_same_pod(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    calls = fails(20, RetryLater(timedelta(), "again"))
    pod = Pod(doors.direct(), topics(process, calls), poll=POLL_OF_NO_USE)

    with running(pod):
        process.reaches(process.start(), "done")

    assert len(calls.tasks) == 21


def test_a_variable_that_cannot_be_sent_makes_an_incident(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()

    Pod(doors.direct(), topics(process, Calls(lambda _: {"amount": float("nan")}))).run_once()

    assert "variable 'amount' is nan" in process.incident(instance)


def test_a_missing_variable_makes_an_incident_that_names_it(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    instance = process.start()

    Pod(doors.direct(), topics(process, Calls(lambda task: {"x": str(task.uuid("quoteId"))}), variables=("quoteId",))).run_once()

    assert "'quoteId' must be a UUID, it is None" in process.incident(instance)


def test_a_task_that_the_engine_cannot_continue_makes_an_incident_with_the_words_of_the_engine(
    deploy: Deployer, doors: Doors
) -> None:
    process = deploy(broken_after_task)
    instance = process.start()

    Pod(doors.direct(), topics(process, Calls())).run_once()

    message = process.incident(instance)
    assert "the work is done, but the engine refuses the report" in message
    assert "nobodySetThis" in message


@pytest.mark.parametrize("exception", [RuntimeError("bug"), SystemExit(3), KeyboardInterrupt(), RecursionError()])
def test_the_pod_goes_on_after_any_error_of_a_handler(deploy: Deployer, doors: Doors, exception: BaseException) -> None:
    process = deploy(one_task)
    calls = fails(1, exception)

    with running(Pod(doors.direct(), topics(process, calls), poll=POLL_OF_NO_USE)):
        process.reaches(process.start(), "done")
        process.reaches(process.start(), "done")

    assert len(calls.tasks) == 3


def test_an_unreadable_variable_stops_only_its_own_task(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    poisoned = process.start()
    form = {"objectTypeName": "com.example.Offer", "serializationDataFormat": "application/xml"}
    value = {"type": "Object", "value": "<offer/>", "valueInfo": form}
    process.engine.post(f"/process-instance/{poisoned}/variables", {"modifications": {"document": value}})
    healthy = process.start(document="fine")

    assert Pod(doors.direct(), topics(process, Calls(), variables=("document",))).run_once() == 2

    assert process.end_of(healthy) == "done"
    assert "variable 'document' is a serialised Java object" in process.incident(poisoned)
