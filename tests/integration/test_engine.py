from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from tests.support.engines import DeployedProcess, Deployer, Doors
from tests.support.models import TENANT, approval_per_group, asking, calling, decision, new_name, one_task, waiting_for_message
from tests.support.waiting import eventually
from workers.runtime.engine import (
    Engine,
    EngineLockedOutError,
    EngineOutcomeUnknownError,
    EngineRefusedError,
    EngineUnavailableError,
    Resource,
    TopicRequest,
    UserTask,
)
from workers.runtime.engine_processes import start_path
from workers.runtime.variables import encode

pytestmark = pytest.mark.stack

POLL_LOCK = timedelta(seconds=60)


@pytest.fixture
def engine(doors: Doors) -> Engine:
    return doors.direct()


def test_the_same_files_again_are_the_same_deployment(engine: Engine, tmp_path: Path) -> None:
    key = new_name("process")
    file = tmp_path / "model.bpmn"
    file.write_text(one_task(key, "topic"), encoding="utf-8")

    first = engine.deploy(TENANT, key, [file])

    assert engine.deploy(TENANT, key, [file]) == first
    file.write_text(one_task(key, "another-topic"), encoding="utf-8")
    assert engine.deploy(TENANT, key, [file]) != first


def test_a_model_that_cannot_be_parsed_is_refused_with_the_reason(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "broken.bpmn"
    file.write_text("<nothing/>", encoding="utf-8")

    with pytest.raises(EngineRefusedError) as refusal:
        engine.deploy(TENANT, "broken", [file])

    assert (refusal.value.status, refusal.value.kind) == (400, "ParseException")


def test_instances_are_found_by_business_key_while_they_run_and_after(deploy: Deployer) -> None:
    process = deploy(one_task)
    business_key = new_name("quote")
    running = process.engine.start_process(TENANT, process.key, business_key, {"startToken": "a"})
    ended = process.engine.start_process(TENANT, process.key, business_key, {"startToken": "b"})

    assert process.engine.instance_variables(running) == {"startToken": "a"}
    assert process.engine.delete_instance(ended, "duplicate start")
    found = {instance.id: instance for instance in process.engine.find_instances(business_key)}

    assert set(found) == {running, ended}
    assert (found[running].state, found[running].runtime) == ("ACTIVE", True)
    assert (found[ended].state, found[ended].runtime) == ("EXTERNALLY_TERMINATED", False)
    assert found[ended].definition_key == process.key
    assert found[running].start_time.tzinfo is not None
    assert process.engine.instance_variables(ended) == {}
    reasons = process.engine.rows("/history/variable-instance", processInstanceId=ended, variableName="terminationReason")
    assert reasons[0]["value"] == "duplicate start"


def test_ending_an_ended_instance_is_reported(deploy: Deployer) -> None:
    process = deploy(one_task)
    instance = process.start()

    assert process.engine.delete_instance(instance, "no longer wanted")
    assert not process.engine.delete_instance(instance, "no longer wanted")


def test_a_message_that_no_process_waits_for_is_no_error(deploy: Deployer) -> None:
    message = new_name("Message")
    process = deploy(lambda key, _: waiting_for_message(key, message))
    business_key = new_name("step")

    assert not process.engine.correlate(TENANT, message, business_key, {"outcome": "early"})
    instance = process.engine.start_process(TENANT, process.key, business_key, {})
    assert process.engine.correlate(TENANT, message, business_key, {"outcome": "in time"})
    assert not process.engine.correlate(TENANT, message, business_key, {"outcome": "again"})

    process.reaches(instance, "done")
    rows = process.engine.rows("/history/variable-instance", processInstanceId=instance, variableName="outcome")
    assert rows[0]["value"] == "in time"


def test_a_user_task_is_completed_once(deploy: Deployer) -> None:
    process = deploy(approval_per_group)
    business_key = new_name("quote")
    process.engine.start_process(TENANT, process.key, business_key, {"groups": ["legal"]})
    (task,) = process.engine.user_tasks(business_key)

    assert (task.name, task.definition_key) == ("Approve", "approve")
    assert process.engine.task_variables(task.id)["group"] == "legal"
    assert process.engine.complete_user_task(task.id, {"decision": "APPROVE"})
    assert not process.engine.complete_user_task(task.id, {"decision": "REJECT"})
    assert process.engine.user_tasks(business_key) == []


class TestWhoCompletedAUserTask:
    """What the operation log says about the last user task of an instance."""

    @pytest.fixture
    def process(self, deploy: Deployer) -> DeployedProcess:
        return deploy(asking)

    @pytest.fixture
    def task(self, process: DeployedProcess) -> UserTask:
        key = new_name("quote")
        process.engine.start_process(TENANT, process.key, key, {"groups": "legal"})
        (task,) = process.engine.user_tasks(key)
        return task

    def test_is_known_when_it_is_completed(self, process: DeployedProcess, task: UserTask, doors: Doors) -> None:
        process.engine.complete_user_task(task.id)

        completion = process.engine.who_completed(task.process_instance_id, "approve")

        assert completion is not None
        assert (completion.user_id, completion.task_id) == (doors.environment["Q2O_ENGINE_USER"], task.id)

    def test_is_nobody_while_it_is_open(self, process: DeployedProcess, task: UserTask) -> None:
        assert process.engine.who_completed(task.process_instance_id, "approve") is None

    def test_is_nobody_when_the_task_was_ended_otherwise(self, process: DeployedProcess, task: UserTask) -> None:
        process.engine.delete_instance(task.process_instance_id, "withdrawn")

        assert process.engine.who_completed(task.process_instance_id, "approve") is None

    @pytest.mark.parametrize("how", ["resolve", "variables of the task", "variables of the instance"])
    def test_tells_what_somebody_wrote_into_its_form_while_it_was_open(
        self, process: DeployedProcess, task: UserTask, how: str
    ) -> None:
        engine, forged = process.engine, {"groups": {"value": "forged", "type": "String"}}
        if how == "resolve":
            engine.post(f"/task/{task.id}/resolve", {"variables": forged})
        elif how == "variables of the task":
            engine.post(f"/task/{task.id}/variables", {"modifications": forged})
        else:
            engine.post(f"/process-instance/{task.process_instance_id}/variables", {"modifications": forged})
        engine.complete_user_task(task.id)

        completion = engine.who_completed(task.process_instance_id, "approve")

        assert completion is not None
        assert completion.shown["groups"] == [{"type": "String", "value": "legal"}, {"type": "String", "value": "forged"}]

    def test_tells_that_somebody_removed_a_value_from_its_form(self, process: DeployedProcess, task: UserTask) -> None:
        process.engine.post(f"/process-instance/{task.process_instance_id}/variables", {"deletions": ["groups"]})
        process.engine.complete_user_task(task.id)

        completion = process.engine.who_completed(task.process_instance_id, "approve")

        assert completion is not None
        assert [each["value"] for each in completion.shown["groups"]] == ["legal", None]

    def test_tells_what_was_typed_and_nothing_that_was_written_before_or_after(
        self, process: DeployedProcess, task: UserTask
    ) -> None:
        before = {"decision": {"value": "REJECT", "type": "String"}, "comment": {"value": "forged", "type": "String"}}
        process.engine.post(f"/process-instance/{task.process_instance_id}/variables", {"modifications": before})
        process.engine.complete_user_task(task.id, {"decision": "APPROVE", "groups": "sales"})

        completion = process.engine.who_completed(task.process_instance_id, "approve")

        assert completion is not None
        assert completion.typed == encode({"decision": "APPROVE", "groups": "sales"})
        assert completion.shown["groups"] == [{"type": "String", "value": "legal"}]


def test_an_instance_is_known_by_its_caller(deploy: Deployer, engine: Engine) -> None:
    called = deploy(one_task)
    caller = deploy(lambda key, _: calling(key, called.key, "child:1"))
    instance_id = caller.start()

    [found] = engine.called_by(instance_id)

    assert (found.business_key, engine.called_by(found.id)) == ("child:1", [])


def test_a_decision_table_can_be_evaluated_directly(engine: Engine, tmp_path: Path) -> None:
    key = new_name("decision").replace("-", "_")
    file = tmp_path / "levels.dmn"
    file.write_text(decision(key), encoding="utf-8")
    engine.deploy(TENANT, key, [file])

    assert engine.evaluate(TENANT, key, {"amount": 50.0}) == [{"level": 1}]
    assert sorted(row["level"] for row in engine.evaluate(TENANT, key, {"amount": 500.0})) == [1, 2]


def test_people_and_permissions_can_be_set_up_repeatedly(engine: Engine) -> None:
    user, group, filter_name = (new_name(kind).replace("-", "") for kind in ("user", "group", "filter"))

    filters = set()
    for permissions in (["READ"], ["READ"], ["READ", "UPDATE"]):
        engine.ensure_user(user, first_name="A", last_name="B", email="a@example.test", password="Long-enough-1")
        engine.ensure_group(group, "A group")
        engine.ensure_membership(group, user)
        engine.ensure_authorization(Resource.FILTER, "*", permissions, group_id=group)
        filters.add(engine.ensure_filter(filter_name, {"candidateGroup": group}, {"priority": 10}))

    assert [row["id"] for row in engine.rows("/user", memberOfGroup=group)] == [user]
    (grant,) = engine.rows("/authorization", groupIdIn=group, resourceType=5)
    assert sorted(grant["permissions"]) == ["READ", "UPDATE"]
    assert len(filters) == 1


def test_the_engine_reports_its_version(engine: Engine) -> None:
    assert engine.version().startswith("7.24.")


def test_a_refused_connection_to_the_engine_proves_that_nothing_was_sent(doors: Doors) -> None:
    engine, proxy = doors.through_proxy()
    proxy.down()

    with pytest.raises(EngineUnavailableError, match="Is it started"):
        engine.version()


def test_a_start_without_a_reply_has_an_unknown_outcome_and_its_instance_is_found(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    business_key = new_name("order")
    proxy.drop_response(start_path(TENANT, process.key))

    with pytest.raises(EngineOutcomeUnknownError):
        engine.start_process(TENANT, process.key, business_key, {})

    assert len(engine.find_instances(business_key)) == 1


def test_a_start_whose_request_was_lost_has_an_unknown_outcome(deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    business_key = new_name("order")
    proxy.drop_request("/start")

    with pytest.raises(EngineOutcomeUnknownError):
        engine.start_process(TENANT, process.key, business_key, {})

    assert engine.find_instances(business_key) == []


def test_a_refusal_carries_status_type_and_message(engine: Engine) -> None:
    with pytest.raises(EngineRefusedError, match="nobody-deployed-this") as refusal:
        engine.start_process(TENANT, "nobody-deployed-this", "key", {})

    assert (refusal.value.status, refusal.value.kind) == (404, "RestException")


def test_a_password_that_is_not_accepted_is_told_from_a_refusal(doors: Doors) -> None:
    nobody = Engine(doors.environment["Q2O_ENGINE_URL"], "nobody", "wrong")

    with pytest.raises(EngineLockedOutError, match="the password of user nobody"):
        nobody.version()
    nobody.close()


def test_a_waiting_poll_ends_when_the_same_worker_polls_again(doors: Doors) -> None:
    engine = doors.direct()
    topic = TopicRequest(name=new_name("topic"), lock_duration=POLL_LOCK, variables=())
    ended = Event()

    def poll() -> None:
        try:
            engine.fetch_and_lock([topic], max_tasks=1, poll=POLL_LOCK)
        except EngineOutcomeUnknownError as error:
            if error.status == 503:
                ended.set()

    thread = Thread(target=poll)
    thread.start()

    def end_it() -> bool:
        engine.end_poll()
        return ended.is_set()

    eventually(end_it, "the poll ends")
    thread.join(30)
