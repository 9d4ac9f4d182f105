"""Process starts without a reply, on the real engine (race 12): however often a start is repeated, one instance passes the gate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import select

from domain.findings import ReconciliationFinding
from domain.store import table_of, unit_of_work
from domain.workflows import requests, starts
from reconciliation.repairs import Repairs
from reconciliation.starts import Starts
from tests.support.database import acting, in_order
from tests.support.engines import DeployedProcess, Deployer, Doors
from tests.support.metrics import metric
from tests.support.models import TENANT, external_task, flow, model, one_task
from tests.support.waiting import eventually
from tests.support.wanted import Wanted
from workers.dispatch import Dispatcher
from workers.pod.pod import Pod, Task, Topic
from workers.runtime.engine import Engine
from workers.sandbox.proxy import FaultProxy
from workers.tasks.contracts import topics_of
from workers.tasks.registration import Registration
from workers.tasks.subjects import Subjects

pytestmark = pytest.mark.stack

SOON, NEVER = timedelta(milliseconds=300), timedelta(hours=1)


def gated(key: str, topic: str) -> str:
    """start, registration gate, external task `work`, end `done`; a duplicate ends at `duplicate-start`."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/><bpmn:endEvent id="duplicate-start"/>',
        external_task("register", f"{topic}-register"),
        '<bpmn:boundaryEvent id="duplicate" attachedToRef="register"><bpmn:errorEventDefinition errorRef="error"/></bpmn:boundaryEvent>',
        external_task("work", topic),
        *(
            flow(*ends)
            for ends in (("start", "register"), ("register", "work"), ("work", "done"), ("duplicate", "duplicate-start"))
        ),
        root='<bpmn:error id="error" name="Duplicate" errorCode="DUPLICATE_WORKFLOW"/>',
    )


@dataclass
class Link:
    """The dispatcher and the reconciler behind a proxy that breaks their calls."""

    database: Database
    engine: Engine
    proxy: FaultProxy

    def dispatch(self) -> int:
        return Dispatcher(acting(self.database, "dispatch"), self.engine).run_once()

    def reconcile(self, start_safe_interval: timedelta = NEVER, *, dry_run: bool = False) -> int:
        return Starts(
            acting(self.database, "reconcile"),
            self.engine,
            Repairs(acting(self.database, "reconcile"), dry_run=dry_run),
            start_safe_interval,
        ).sweep()


@pytest.fixture
def link(db: Database, doors: Doors) -> Link:
    engine, proxy = doors.through_proxy()
    return Link(db, engine, proxy)


def start_with_lost_reply(link: Link, process: DeployedProcess) -> Wanted:
    wanted = Wanted.of(link.database, process.key)
    link.proxy.drop_response("/start")
    link.dispatch()
    assert wanted.correlation.status == "START_UNKNOWN"
    return wanted


def start_that_never_arrives(link: Link, process: DeployedProcess) -> Wanted:
    wanted = Wanted.of(link.database, process.key)
    link.proxy.drop_request("/start")
    link.dispatch()
    assert wanted.correlation.status == "START_UNKNOWN"
    return wanted


def start_again_at_once(link: Link, wanted: Wanted) -> None:
    """Start the process again, as a retry does that takes a lost reply for a failure."""
    with unit_of_work(link.database, wanted.cause) as uow:
        starts.start_again(uow, wanted.business_key, wanted.correlation.version)
    link.proxy.drop_response("/start")
    link.dispatch()


def findings(database: Database, wanted: Wanted) -> list[Any]:
    finding = table_of(ReconciliationFinding)
    query = select(*finding.c).where(finding.c.tenant_id == wanted.tenant_id)
    with database.connect() as connection:
        return list(connection.execute(in_order(query, finding)))


def test_the_instance_of_a_start_without_a_reply_is_found_and_attached(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    before = metric("q2o_workflow_start_unknown_total", workflow=process.key)
    attached = metric("q2o_reconciliation_actions_total", kind="start", result="attached")

    wanted = start_with_lost_reply(link, process)
    assert link.reconcile() == 1
    assert link.reconcile() == link.dispatch() == 0

    (instance,) = process.engine.find_instances(wanted.business_key)
    assert wanted.correlation.process_instance_id == instance.id
    assert wanted.history == ["REQUESTED", "START_UNKNOWN", "STARTED"]
    assert metric("q2o_workflow_start_unknown_total", workflow=process.key) == before + 1
    assert metric("q2o_reconciliation_actions_total", kind="start", result="attached") == attached + 1
    (finding,) = findings(link.database, wanted)
    assert (finding.action, finding.status) == ("attached", "REPAIRED")
    assert finding.evidence == {"instances": [{"processInstanceId": instance.id, "state": "ACTIVE"}]}


def test_of_three_instances_exactly_one_passes_the_gate_and_works(link: Link, deploy: Deployer, doors: Doors) -> None:
    process = deploy(gated)
    wanted = start_with_lost_reply(link, process)
    start_again_at_once(link, wanted)
    start_again_at_once(link, wanted)
    instances = [instance.id for instance in process.engine.find_instances(wanted.business_key)]
    assert len(instances) == 3
    worked = []

    def work(task: Task) -> Mapping[str, Any]:
        worked.append(task.process_instance_id)
        return {}

    [register] = topics_of(
        [Registration(acting(link.database, "tasks"))], Subjects(acting(link.database, "tasks"), process.engine)
    ).values()
    gate = replace(register, name=f"{process.topic}-register")
    pod = Pod(doors.direct(), {gate.name: gate, process.topic: Topic(name=process.topic, handler=work)})

    def has_ended() -> bool:
        pod.run_once()
        return all(process.end_of(instance) for instance in instances)

    eventually(has_ended, "every instance ends")

    passed = wanted.correlation.process_instance_id
    assert worked == [passed]
    assert {instance: process.end_of(instance) for instance in instances} == {
        instance: "done" if instance == passed else "duplicate-start" for instance in instances
    }
    assert wanted.history == [*["REQUESTED", "START_UNKNOWN"] * 3, "STARTED"]
    assert link.reconcile(SOON) == 0


def test_the_oldest_running_instance_is_attached_when_nobody_has_passed_the_gate(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = start_with_lost_reply(link, process)
    start_again_at_once(link, wanted)
    first, second = process.engine.find_instances(wanted.business_key)

    assert link.reconcile() == 1

    assert wanted.correlation.process_instance_id == first.id
    with pytest.raises(starts.DuplicateWorkflow):
        wanted.pass_gate(second.id)


def test_a_start_that_never_arrived_is_sent_again_after_the_safe_interval_and_not_before(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = start_that_never_arrives(link, process)

    assert link.reconcile(NEVER) == link.dispatch() == 0
    eventually(lambda: link.reconcile(SOON), "the safe interval is over")
    link.dispatch()

    (instance,) = process.engine.find_instances(wanted.business_key)
    assert wanted.correlation.process_instance_id == instance.id
    assert wanted.history == ["REQUESTED", "START_UNKNOWN", "REQUESTED", "STARTED"]
    assert wanted.correlation.attempts == 2
    assert process.engine.instance_variables(instance.id)["startToken"] == str(wanted.correlation.start_token)


def test_a_registration_wins_against_the_conclusion_that_the_start_is_absent(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted, released = start_that_never_arrives(link, process), Event()
    lost = metric("q2o_reconciliation_actions_total", kind="start", result="lost_to_callback")
    link.proxy.hold("/history/process-instance", released)
    sweep = Thread(target=link.reconcile, args=(timedelta(0),))
    sweep.start()
    eventually(lambda: link.proxy.faults["hold"], "the engine has said that there is none")

    late = process.start(startToken=str(wanted.correlation.start_token))
    wanted.pass_gate(late)
    released.set()
    sweep.join()

    assert wanted.history == ["REQUESTED", "START_UNKNOWN", "STARTED"]
    assert len(wanted.commands) == 1
    assert findings(link.database, wanted) == []
    assert metric("q2o_reconciliation_actions_total", kind="start", result="lost_to_callback") == lost + 1


def test_a_conclusion_about_one_start_is_not_applied_to_the_next(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted, released = start_that_never_arrives(link, process), Event()
    link.proxy.hold("/history/process-instance", released)
    sweep = Thread(target=link.reconcile, args=(timedelta(0),))
    sweep.start()
    eventually(lambda: link.proxy.faults["hold"], "the engine has said that there is none")

    start_again_at_once(link, wanted)
    released.set()
    sweep.join()

    # The second start is due at once, and the same sweep asks about it.
    assert wanted.history == [*["REQUESTED", "START_UNKNOWN"] * 2, "STARTED"]
    assert len(wanted.commands) == 2


def test_an_instance_without_the_start_token_is_not_attached(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = start_that_never_arrives(link, process)
    process.engine.start_process(TENANT, process.key, wanted.business_key, {"startToken": "made up"})

    assert link.reconcile() == 0

    assert wanted.correlation.status == "START_UNKNOWN"


def test_an_instance_that_was_deleted_before_it_registered_is_started_again(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = start_with_lost_reply(link, process)
    (deleted,) = process.engine.find_instances(wanted.business_key)
    process.engine.delete_instance(deleted.id, "by mistake")

    eventually(lambda: link.reconcile(SOON), "it is started again")
    link.dispatch()

    assert wanted.correlation.status == "STARTED"
    assert wanted.correlation.process_instance_id != deleted.id


def test_a_start_that_the_dispatcher_has_claimed_is_left_alone(link: Link, deploy: Deployer) -> None:
    wanted = Wanted.of(link.database, deploy(one_task).key)

    assert link.reconcile(timedelta(0)) == 0

    assert wanted.history == ["REQUESTED"]


def test_a_start_whose_request_was_lost_is_asked_for_too(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(link.database, process.key)
    with unit_of_work(link.database, wanted.cause) as uow:
        requests.finish(uow, wanted.commands[0].id, "by hand")

    assert link.reconcile(timedelta(0)) == 2
    link.dispatch()

    assert wanted.history == ["REQUESTED", "START_UNKNOWN", "REQUESTED", "STARTED"]
    assert [finding.action for finding in findings(link.database, wanted)] == ["timed_out", "started_again"]


def test_a_dry_run_reports_the_repair_and_changes_nothing(link: Link, deploy: Deployer) -> None:
    process = deploy(one_task)
    wanted = start_with_lost_reply(link, process)
    before = wanted.correlation

    assert link.reconcile(dry_run=True) == 1

    assert (wanted.correlation, findings(link.database, wanted)) == (before, [])
