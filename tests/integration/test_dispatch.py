from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from sqlalchemy import Engine as Database

from domain.store.facts import WorkflowCommandKind
from tests.support.database import acting
from tests.support.engines import Deployer, Doors
from tests.support.metrics import metric
from tests.support.models import TENANT, approval_per_group, flow, model, new_name, one_task, waiting_for_message
from tests.support.waiting import eventually
from tests.support.wanted import Wanted, claimed_by_a_dead_dispatcher
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine, EngineLockedOutError, EngineUnavailableError

pytestmark = pytest.mark.stack

CORRELATE, COMPLETE_TASK = WorkflowCommandKind.CORRELATE, WorkflowCommandKind.COMPLETE_TASK


@pytest.fixture
def dispatcher(db: Database, doors: Doors) -> Dispatcher:
    return Dispatcher(acting(db, "dispatch"), doors.direct())


def settled(wanted: Wanted, dispatcher: Dispatcher) -> Callable[[], bool]:
    """A condition: dispatches, and is true once no command of this process is left."""

    def probe() -> bool:
        dispatcher.run_once()
        return all(command.status != "PENDING" for command in wanted.commands)

    return probe


def fails_at_once(key: str, _: str) -> str:
    """A model whose first expression cannot be evaluated, so that the engine rolls the start back."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:serviceTask id="fail" camunda:expression="${nobodySetThis}"/><bpmn:endEvent id="done"/>',
        flow("start", "fail"),
        flow("fail", "done"),
    )


@contextmanager
def gateway_answering(status: int) -> Iterator[str]:
    """A gateway that answers every request itself, with a page for people."""

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"oops")

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/engine-rest"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def test_a_start_that_a_dead_dispatcher_may_have_sent_is_not_sent_again(
    db: Database, deploy: Deployer, dispatcher: Dispatcher
) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(db, process.key)
    before = metric("q2o_workflow_start_unknown_total", workflow=process.key)
    claimed_by_a_dead_dispatcher(db)

    dispatcher.run_once()

    assert (wanted.correlation.status, wanted.commands[0].outcome) == ("START_UNKNOWN", "START_UNKNOWN")
    assert process.engine.find_instances(wanted.business_key) == []
    assert metric("q2o_workflow_start_unknown_total", workflow=process.key) == before + 1


def test_an_engine_that_cannot_be_reached_costs_a_start_nothing(db: Database, deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    dispatcher, wanted = Dispatcher(acting(db, "dispatch"), engine), Wanted.of(db, process.key)
    proxy.down()

    for _ in range(3):
        with pytest.raises(EngineUnavailableError):
            dispatcher.run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    proxy.up()
    dispatcher.run_once()
    assert wanted.history == ["REQUESTED", "STARTED"]
    assert len(process.engine.find_instances(wanted.business_key)) == 1


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


def test_a_start_that_the_engine_rolled_back_is_tried_again(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    process = deploy(fails_at_once)
    wanted = Wanted.of(db, process.key)

    dispatcher.run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert wanted.history == ["REQUESTED"]


@pytest.mark.parametrize(
    ("status", "history"),
    [
        (502, ["REQUESTED", "START_UNKNOWN"]),
        (503, ["REQUESTED", "START_UNKNOWN"]),
        (500, ["REQUESTED", "START_UNKNOWN"]),
        (429, ["REQUESTED"]),
    ],
)
def test_the_outcome_of_a_start_follows_from_the_status_of_a_gateways_answer(db: Database, status: int, history: list[str]) -> None:
    wanted = Wanted.of(db, "order-fulfillment")

    with gateway_answering(status) as url:
        engine = Engine(url, "user", "password")
        Dispatcher(acting(db, "dispatch"), engine).run_once()
        engine.close()

    assert wanted.history == history


def test_a_start_waits_while_the_engine_does_not_accept_the_password(db: Database) -> None:
    wanted = Wanted.of(db, "order-fulfillment")

    with gateway_answering(401) as url:
        engine = Engine(url, "user", "password")
        with pytest.raises(EngineLockedOutError):
            Dispatcher(db, engine).run_once()
        engine.close()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert wanted.history == ["REQUESTED"]


def test_a_start_is_not_sent_when_its_lease_is_nearly_over(db: Database, deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(db, process.key)

    Dispatcher(acting(db, "dispatch"), doors.direct(), lease=timedelta(0)).run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert process.engine.find_instances(wanted.business_key) == []


def test_a_second_instance_is_recorded_as_a_duplicate(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    wanted = Wanted.of(db, deploy(one_task).key)
    wanted.pass_gate("the-first-instance")

    dispatcher.run_once()

    assert [(command.status, command.outcome) for command in wanted.commands] == [("DONE", "DUPLICATE_WORKFLOW")]
    assert wanted.correlation.process_instance_id == "the-first-instance"


def test_a_start_that_the_engine_never_accepts_fails(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    wanted = Wanted.of(db, deploy(one_task).key, novel="x" * 5000)

    dispatcher.run_once()

    assert wanted.history == ["REQUESTED", "START_FAILED"]
    assert [(command.status, command.outcome) for command in wanted.commands] == [("DONE", "START_FAILED")]


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
