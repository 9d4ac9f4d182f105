"""What the engine refuses whoever asks: code in data, unbounded queries, guessed passwords, requests of other sites."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import httpx
import pytest

from tests.support import asking
from tests.support.engines import Deployer, Doors
from tests.support.models import TENANT, flow, model, new_name, one_task
from tests.support.waiting import eventually
from workers.runtime import engine_connection
from workers.runtime.engine import Engine, EngineRefusedError

pytestmark = pytest.mark.stack

HARMLESS_BEAN = "org.camunda.bpm.engine.rest.dto.CountResultDto"
SCRIPT_TASK = '<bpmn:scriptTask id="task" scriptFormat="javascript"><bpmn:script>1 + 1</bpmn:script></bpmn:scriptTask>'
EXTERNAL_ENTITY = '<!DOCTYPE x [<!ENTITY secret SYSTEM "file:///etc/hostname">]>'


@pytest.fixture
def engine(doors: Doors) -> Engine:
    return doors.direct()


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(EngineRefusedError) as refusal:
        call()
    return refusal.value.message


@pytest.fixture
def variable(deploy: Deployer) -> Callable[[str, str, str], Callable[[], object]]:
    """Give a call that sets an object variable in a new instance, and another that reads it as an object."""
    process = deploy(one_task)
    instance = process.start()
    address = f"/process-instance/{instance}/variables/object"

    def written(data_format: str, kind: str, value: str) -> Callable[[], object]:
        info = {"objectTypeName": kind, "serializationDataFormat": data_format}
        process.engine.put(address, {"type": "Object", "value": value, "valueInfo": info})
        return lambda: process.engine.get(address, deserializeValue="true")

    return written


def test_a_serialised_java_object_is_refused_as_a_variable(
    variable: Callable[[str, str, str], Callable[[], object]],
) -> None:
    message = refused(lambda: variable("application/x-java-serialized-object", "java.util.HashMap", "rO0ABQ=="))

    assert "Java serialization format is prohibited" in message


def test_the_engine_makes_no_object_of_a_class_that_a_variable_names(
    variable: Callable[[str, str, str], Callable[[], object]],
) -> None:
    assert variable("application/json", "java.util.HashMap", '{"count": 1}')()

    read = variable("application/json", HARMLESS_BEAN, '{"count": 1}')

    assert HARMLESS_BEAN in refused(read)


def test_an_expression_in_a_query_is_refused(engine: Engine) -> None:
    message = refused(lambda: engine.post("/task?maxResults=1", {"candidateGroupExpression": "${'approvers'}"}))

    assert "Expressions are forbidden in adhoc queries" in message


def test_a_script_in_a_model_is_not_run(deploy: Deployer) -> None:
    def scripted(key: str, _: str) -> str:
        return model(key, '<bpmn:startEvent id="start"/>', SCRIPT_TASK, flow("start", "task"))

    process = deploy(scripted)

    assert "Can't find scripting engine for 'javascript'" in refused(process.start)


def test_a_model_with_an_external_entity_is_refused(engine: Engine, tmp_path: Path) -> None:
    key = new_name("process")
    file = tmp_path / "model.bpmn"
    declaration, rest = one_task(key, "topic").split("?>", 1)
    file.write_text(f"{declaration}?>{EXTERNAL_ENTITY}{rest}", encoding="utf-8")

    assert "DOCTYPE" in refused(lambda: engine.deploy(TENANT, key, [file]))


def test_a_query_without_a_limit_is_refused_and_our_lists_come_page_by_page(engine: Engine) -> None:
    assert "unbound number of results is forbidden" in refused(lambda: engine.call("GET", "/task"))
    assert "limit of 2000 exceeded" in refused(lambda: engine.rows("/task", maxResults=2001))

    prefix = new_name("group").replace("-", "")
    for number in range(3):
        engine.ensure_group(f"{prefix}{number}", "A group")
    with patch.object(engine_connection, "PAGE", 2):
        groups = engine.rows("/group", idIn=",".join(f"{prefix}{number}" for number in range(3)))

    assert sorted(row["id"] for row in groups) == [f"{prefix}{number}" for number in range(3)]


def test_a_wrong_password_delays_the_right_one(engine: Engine, doors: Doors) -> None:
    user, password = new_name("user").replace("-", ""), "Long-enough-1"
    engine.ensure_user(user, first_name="A", last_name="B", email="a@example.test", password=password)

    def status(secret: str) -> int:
        return asking.get(f"{doors.environment['Q2O_ENGINE_URL']}/version", auth=(user, secret)).status_code

    assert status("wrong") == httpx.codes.UNAUTHORIZED
    assert status(password) == httpx.codes.UNAUTHORIZED
    eventually(lambda: status(password) != httpx.codes.UNAUTHORIZED, "the right password is accepted again")


def test_a_request_of_another_site_is_refused_by_the_web_applications(doors: Doors) -> None:
    address = f"{doors.environment['Q2O_ENGINE_URL'].removesuffix('/engine-rest')}/camunda"
    login = {"username": doors.environment["Q2O_ENGINE_USER"], "password": doors.environment["Q2O_ENGINE_PASSWORD"]}

    def log_in(*, knows_token: bool) -> int:
        cookies = asking.get(f"{address}/app/welcome/default/").cookies
        headers = {"X-XSRF-TOKEN": str(cookies["XSRF-TOKEN"])} if knows_token else {}
        url = f"{address}/api/admin/auth/user/default/login/welcome"
        return asking.post(url, data=login, cookies=cookies, headers=headers).status_code

    assert log_in(knows_token=True) == httpx.codes.OK
    assert log_in(knows_token=False) == httpx.codes.FORBIDDEN


def test_the_engine_has_neither_the_people_nor_the_application_of_the_vendors_demo(engine: Engine) -> None:
    people = {row["id"] for row in engine.rows("/user")}

    assert people.isdisjoint({"demo", "john", "mary", "peter"})
    assert engine.rows("/process-definition", key="invoice") == []
