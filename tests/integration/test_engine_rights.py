"""What the engine refuses to the accounts of the processes, and to people who are asked to do a task (docs/rights-engine.md)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from threading import Event
from uuid import uuid4

import httpx
import pytest

from tests.support import asking
from tests.support.engine_site import ASKED, LOCK, Site, ask_approver
from tests.support.models import new_name
from workers.accounts import ACCOUNTS
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import OPERATOR, RSM
from workers.deployment import OF_QUOTES, model_files
from workers.needs import QUESTIONS, RightMissingError
from workers.runtime.engine import Engine, EngineLockedOutError, EngineRefusedError, Resource, TopicRequest, UserTask
from workers.runtime.readiness import Ask

pytestmark = pytest.mark.stack

PROCESSES = tuple(ACCOUNTS)
OTHER_TENANT = uuid4()


def status_of(call: Callable[[], object]) -> int:
    """The status with which the engine refuses a call."""
    with pytest.raises(EngineRefusedError) as refusal:
        call()
    return refusal.value.status


def new_user(name: str) -> dict[str, object]:
    profile = {"id": name, "firstName": "A", "lastName": "B", "email": "a@example.org"}
    return {"profile": profile, "credentials": {"password": PEOPLE_PASSWORD}}


Attempt = Callable[[Engine, Site, str], object]
FORBIDDEN: dict[str, Attempt] = {
    "deploy models": lambda engine, site, _: engine.deploy(site.tenant, "forbidden", model_files()),
    "delete a deployment": lambda engine, site, _: engine.call("DELETE", f"/deployment/{site.deployment}"),
    "suspend a process": lambda engine, _, __: engine.put(
        "/process-definition/suspended", {"processDefinitionKey": "order-fulfillment", "suspended": True}
    ),
    "delete an instance that asks people": lambda engine, site, _: engine.call(
        "DELETE", f"/process-instance/{site.task.process_instance_id}"
    ),
    "delete history": lambda engine, site, _: engine.call("DELETE", f"/history/process-instance/{site.order}"),
    "create a user": lambda engine, _, __: engine.post("/user/create", new_user("mallory")),
    "change the own password": lambda engine, _, user: engine.set_password(user, "Another-2026-one"),
    "delete itself": lambda engine, _, user: engine.call("DELETE", f"/user/{user}"),
    "create a group": lambda engine, _, __: engine.post("/group/create", {"id": "mallory", "name": "M", "type": "WORKFLOW"}),
    "join a group": lambda engine, _, user: engine.put(f"/group/{RSM.groups[0]}/members/{user}"),
    "create a tenant": lambda engine, _, __: engine.post("/tenant/create", {"id": "mallory", "name": "M"}),
    "join another tenant": lambda engine, _, user: engine.put(f"/tenant/{OTHER_TENANT}/user-members/{user}"),
    "grant itself a right": lambda engine, _, user: engine.ensure_authorization(
        Resource.APPLICATION, "*", ["ACCESS"], user_id=user
    ),
    "make a filter": lambda engine, _, __: engine.post(
        "/filter/create", {"resourceType": "Task", "name": new_name("filter"), "query": {}}
    ),
    "start a process that others call": lambda engine, site, _: engine.start_process(
        site.tenant, "confirm-case", new_name("confirmation"), {}
    ),
}
"""What no account may do."""


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_account_may(site: Site, process: str, what: str) -> None:
    account = ACCOUNTS[process]

    with site.account(process) as engine:
        assert status_of(lambda: FORBIDDEN[what](engine, site, account.user_id)) in {403, 404}


class NoLoop:
    def run(self, stop: Event) -> None: ...


def question(site: Site, process: str, opened: ExitStack, **changes: str) -> Ask:
    """What `/readyz` of a process asks the engine."""
    return QUESTIONS["engine"](process, site.settings.of(process).having(**changes), NoLoop(), opened)


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_with_its_account_is_ready_for_the_engine(site: Site, process: str) -> None:
    with ExitStack() as opened:
        question(site, process, opened)()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_with_an_account_that_the_engine_does_not_know_is_not_ready(site: Site, process: str) -> None:
    with ExitStack() as opened, pytest.raises(EngineLockedOutError):
        question(site, process, opened, engine_user=new_name("nobody"))()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_with_the_account_of_a_person_is_not_ready(site: Site, process: str) -> None:
    with ExitStack() as opened, pytest.raises(RightMissingError, match="may not"):
        question(site, process, opened, engine_user=RSM.id, engine_password=PEOPLE_PASSWORD)()


@pytest.mark.parametrize("process", PROCESSES)
def test_an_account_reads_no_users(site: Site, process: str) -> None:
    with site.account(process) as engine:
        assert engine.rows("/user") == []
        assert engine.rows("/authorization") == []


@pytest.mark.parametrize("process", ["tasks", "reconcile"])
def test_only_dispatch_starts_processes_and_completes_tasks(site: Site, process: str) -> None:
    with site.account(process) as engine:
        assert status_of(lambda: engine.start_process(site.tenant, "order-fulfillment", new_name("order"), {})) in {403, 404}
        assert status_of(lambda: engine.post(f"/task/{site.task.id}/complete", {})) == 403


def test_reconcile_gets_no_external_task_of_a_process_that_asks_people(site: Site) -> None:
    with site.account("reconcile") as engine:
        topic = TopicRequest(name="approval.prepare-form", lock_duration=LOCK, variables=())
        assert engine.fetch_and_lock([topic], max_tasks=1, poll=timedelta(0)) == []


def test_reconcile_writes_no_variable_of_a_process_that_asks_people(site: Site) -> None:
    with site.account("reconcile") as engine:
        variables = f"/process-instance/{site.task.process_instance_id}/variables"
        assert status_of(lambda: engine.post(variables, {"modifications": {"decision": {"value": "APPROVE"}}})) == 403


@pytest.mark.parametrize("process", ["tasks", "dispatch"])
def test_only_reconcile_ends_an_instance(site: Site, process: str) -> None:
    with site.account(process) as engine:
        assert status_of(lambda: engine.call("DELETE", f"/process-instance/{site.order}")) == 403


def web_login(site: Site, application: str, user: str, password: str) -> httpx.Response:
    address = site.settings.engine_url.removesuffix("/engine-rest") + "/camunda"
    cookies = asking.get(f"{address}/app/welcome/default/").cookies
    headers = {"X-XSRF-TOKEN": str(cookies["XSRF-TOKEN"])}
    form = {"username": user, "password": password}
    return asking.post(f"{address}/api/admin/auth/user/default/login/{application}", data=form, cookies=cookies, headers=headers)


@pytest.mark.parametrize("process", PROCESSES)
def test_nobody_enters_an_application_with_the_login_of_an_account(site: Site, process: str) -> None:
    own = site.settings.of(process)
    login = own.engine_user, str(own.engine_password)

    assert web_login(site, "tasklist", RSM.id, PEOPLE_PASSWORD).status_code == 200
    assert {web_login(site, each, *login).status_code for each in ("tasklist", "cockpit", "admin")} == {403}
    # The page with the links to the applications has no data, and everybody may see it.
    assert web_login(site, "welcome", *login).json()["authorizedApps"] == ["welcome"]


def listed(site: Site, person: str, task: UserTask) -> dict[str, object]:
    """The columns of a task in a person's list, asked for as Tasklist does."""
    url, login = site.settings.engine_url, (person, PEOPLE_PASSWORD)
    [one] = asking.get(f"{url}/filter?maxResults=2", auth=login).json()
    hal = {"Accept": "application/hal+json"}
    rows = asking.get(f"{url}/filter/{one['id']}/list?maxResults=2000", auth=login, headers=hal).json()["_embedded"]["task"]
    [row] = [row for row in rows if row["id"] == task.id]
    return {variable["name"]: variable["value"] for variable in row["_embedded"]["variable"]}


def test_an_approver_sees_the_columns_and_the_form_of_the_task_and_nothing_else_of_its_instance(site: Site) -> None:
    assert listed(site, RSM.id, site.task) == {name: ASKED[name] for name in OF_QUOTES}
    with site.person(RSM.id) as engine:
        assert engine.task_variables(site.task.id).items() >= ASKED.items()
        assert engine.rows("/variable-instance", variableName="dueAt") == []
        for unseen in (
            "/process-instance",
            "/history/process-instance",
            "/history/variable-instance",
            "/history/task",
            "/history/user-operation",
        ):
            assert engine.rows(unseen) == []


def test_an_approver_may_claim_and_complete_but_not_write_or_pass_on(site: Site) -> None:
    task = ask_approver(site.administrator, site.tenant)

    with site.person(RSM.id) as engine:
        engine.post(f"/task/{task.id}/claim", {"userId": RSM.id})
        for path, body in (
            ("variables", {"modifications": {"netTotal": {"value": "1.00"}}}),
            ("localVariables", {"modifications": {"netTotal": {"value": "1.00"}}}),
            ("assignee", {"userId": "dewi"}),
            ("unclaim", {}),
            ("identity-links", {"groupId": "dealDesk", "type": "candidate"}),
        ):
            assert status_of(lambda path=path, body=body: engine.post(f"/task/{task.id}/{path}", body)) == 403  # type: ignore[misc]
    with site.person(OPERATOR.id) as operator:
        assert operator.assign_user_task(task.id, None)
    with site.person(RSM.id) as engine:
        assert engine.complete_user_task(task.id, {"decision": "APPROVE", "reasonCode": "STRATEGIC_DEAL", "comment": ""})
    site.administrator.delete_instance(task.process_instance_id, "its test is over")
