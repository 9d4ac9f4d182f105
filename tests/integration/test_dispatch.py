"""The dispatcher starts each process once, and delivers messages and completes tasks for those that wait."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import Engine as Database

from domain.store.facts import WorkflowCommandKind
from tests.support.database import acting
from tests.support.engines import Deployer, Doors
from tests.support.models import TENANT, approval_per_group, new_name, one_task, waiting_for_message
from tests.support.waiting import eventually
from tests.support.wanted import Wanted, claimed_by_a_dead_dispatcher
from workers.dispatch import Dispatcher

pytestmark = pytest.mark.stack

CORRELATE, COMPLETE_TASK = WorkflowCommandKind.CORRELATE, WorkflowCommandKind.COMPLETE_TASK


def settled(wanted: Wanted, dispatcher: Dispatcher) -> Callable[[], bool]:
    """A condition: dispatches, and is true once no command of this process is left."""

    def probe() -> bool:
        dispatcher.run_once()
        return all(command.status != "PENDING" for command in wanted.commands)

    return probe


def test_a_process_is_started_once_and_registered(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(db, process.key)

    assert dispatcher.run_once() == 1
    assert dispatcher.run_once() == 0

    (instance,) = process.engine.find_instances(wanted.business_key)
    assert (wanted.correlation.status, wanted.correlation.process_instance_id) == ("STARTED", instance.id)
    assert process.engine.instance_variables(instance.id) == {
        "tenantId": str(wanted.tenant_id),
        "orderId": str(wanted.aggregate_id),
        "startToken": str(wanted.correlation.start_token),
    }
    assert [(command.status, command.outcome) for command in wanted.commands] == [("DONE", "STARTED")]


def test_an_instance_that_registers_before_the_reply_to_its_start_is_attached_once(
    db: Database, deploy: Deployer, doors: Doors
) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    wanted, released = Wanted.of(db, process.key), Event()
    proxy.hold("/start", released)
    thread = Thread(target=Dispatcher(acting(db, "dispatch"), engine).run_once)

    thread.start()
    found = eventually(lambda: process.engine.find_instances(wanted.business_key), "the engine has started it")
    wanted.pass_gate(found[0].id)
    released.set()
    thread.join()

    assert (wanted.correlation.status, wanted.commands[0].outcome) == ("STARTED", "STARTED")
    assert wanted.history == ["REQUESTED", "STARTED"]


def test_a_start_waits_until_its_model_is_deployed(db: Database, dispatcher: Dispatcher, doors: Doors, tmp_path: Path) -> None:
    key = new_name("process")
    wanted = Wanted.of(db, key)
    dispatcher.run_once()
    assert (wanted.correlation.status, wanted.commands[0].status) == ("REQUESTED", "PENDING")

    file = tmp_path / "late.bpmn"
    file.write_text(one_task(key, "late"), encoding="utf-8")
    doors.direct().deploy(TENANT, key, [file])

    eventually(settled(wanted, dispatcher), "the start is carried out")
    assert wanted.history == ["REQUESTED", "STARTED"]


def test_a_second_instance_is_recorded_as_a_duplicate(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    wanted = Wanted.of(db, deploy(one_task).key)
    wanted.pass_gate("the-first-instance")

    dispatcher.run_once()

    assert [(command.status, command.outcome) for command in wanted.commands] == [("DONE", "DUPLICATE_WORKFLOW")]
    assert wanted.correlation.process_instance_id == "the-first-instance"


def test_a_message_waits_until_a_process_waits_for_it(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    message = new_name("message")
    process = deploy(lambda key, _: waiting_for_message(key, message))
    wanted = Wanted.of(db, process.key)
    claimed_by_a_dead_dispatcher(db)
    dispatcher.run_once()
    wanted.ask(CORRELATE, message, step_outcome="COMPLETED")
    dispatcher.run_once()
    assert wanted.commands[-1].status == "PENDING"

    instance = process.engine.start_process(TENANT, process.key, wanted.business_key, {})

    eventually(settled(wanted, dispatcher), "the message is delivered")
    process.reaches(instance, "done")
    assert wanted.commands[-1].outcome == "DELIVERED"


def test_a_message_that_no_process_waits_for_in_time_expires(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    wanted = Wanted.of(db, deploy(one_task).key)
    dispatcher.run_once()
    wanted.ask(CORRELATE, "NobodyWaits", expires_after=timedelta(milliseconds=200))

    eventually(settled(wanted, dispatcher), "the message expires")

    assert wanted.commands[-1].status == "EXPIRED"


def test_a_message_never_overtakes_the_start_of_its_process(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    message = new_name("message")
    process = deploy(lambda key, _: waiting_for_message(key, message))
    everything = [Wanted.of(db, process.key) for _ in range(10)]
    for wanted in everything:
        wanted.ask(CORRELATE, message)

    assert dispatcher.run_once() == len(everything)
    assert dispatcher.run_once() == len(everything)

    for wanted in everything:
        assert [command.attempts for command in wanted.commands] == [1, 1]
        process.reaches(wanted.correlation.process_instance_id, "done")


def test_the_user_task_of_a_signature_is_completed(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    process = deploy(approval_per_group)
    wanted = Wanted.of(db, process.key)
    claimed_by_a_dead_dispatcher(db)
    dispatcher.run_once()
    process.engine.start_process(TENANT, process.key, wanted.business_key, {"groups": ["legal"]})

    wanted.ask(COMPLETE_TASK, "approve", decision="APPROVE", reason_code="WITHIN_POLICY", comment="")
    wanted.ask(COMPLETE_TASK, "nobody", expires_after=timedelta(milliseconds=200))
    eventually(settled(wanted, dispatcher), "the task is completed")

    assert process.engine.user_tasks(wanted.business_key) == []
    assert [command.status for command in wanted.commands[1:]] == ["DONE", "EXPIRED"]


def test_two_dispatchers_start_everything_once(db: Database, deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    everything = [Wanted.of(db, process.key) for _ in range(40)]
    stop = Event()
    threads = [Thread(target=Dispatcher(acting(db, "dispatch"), doors.direct()).run, args=(stop,)) for _ in range(2)]
    for thread in threads:
        thread.start()

    eventually(lambda: all(wanted.commands[0].status == "DONE" for wanted in everything), "everything is started")
    stop.set()
    for thread in threads:
        thread.join()

    assert {wanted.correlation.status for wanted in everything} == {"STARTED"}
    assert all(len(process.engine.find_instances(wanted.business_key)) == 1 for wanted in everything)
