"""People of one tenant who reach for the work of another, with their own logins through the engine's REST.

Before the engine knew tenants, whoever was in a group saw and decided the tasks of every tenant.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from uuid import UUID

import pytest

from domain import granting
from domain.fallout.cases import FalloutCase, resolution_key
from domain.granting import GrantAuthority
from domain.offers.approvals import ApprovalDecision
from domain.store import Cause, unit_of_work
from tests.support.logins import hired, logged_in
from tests.support.offered import APPROVE, Offered
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.demo.people import FIRST_LEVEL, OPERATOR, REGION, RSM
from workers.runtime.engine import Engine, EngineRefusedError
from workers.sandbox.faults import FaultKind

pytestmark = pytest.mark.stack

APPROVERS = RSM.groups[0]
CASE_WORKERS = FIRST_LEVEL.groups[0]


def authorize(shop: Shop, person: str) -> None:
    """Let a person sign discounts of up to 25 % for a tenant."""
    grant = GrantAuthority(
        subject=person,
        role=APPROVERS,
        granted_by="ayu",
        region=REGION,
        max_discount_percent=Decimal(25),
        max_deal_amount=Decimal(99_000),
    )
    with unit_of_work(shop.database, Cause(tenant_id=shop.tenant_id, actor="ayu", command="grant")) as uow:
        granting.grant(uow, grant)


def signed_by(shop: Shop) -> list[str]:
    """Who has signed something for a tenant."""
    return [row.decided_by for row in shop.rows(ApprovalDecision)]


def refused(engine: Engine, method: str, path: str, body: Mapping[str, object] | None = None) -> bool:
    """Whether the engine refuses a request as a person."""
    try:
        engine.call(method, path, json=body or {})
    except EngineRefusedError:
        return True
    return False


def seen(engine: Engine, offered: Offered) -> dict[str, int]:
    """What a person finds of an offered quote, list by list."""
    tenant, key = str(offered.shop.tenant_id), next(iter(offered.shop.signature_keys(offered.sample)))
    [instance] = offered.shop.engine.find_instances(key)
    everything_of_it = {"processInstanceId": instance.id}
    number = f"quoteNumber_eq_{offered.sample.quote['quoteNumber']}"
    lists = {
        "tasks": ("/task", {"processInstanceBusinessKey": key}),
        "tasks of the tenant": ("/task", {"tenantIdIn": tenant}),
        "tasks by variable": ("/task", {"processVariables": number, "tenantIdIn": tenant}),
        "instances": ("/process-instance", {"businessKey": key}),
        "executions": ("/execution", everything_of_it),
        "variables": ("/variable-instance", {"processInstanceIdIn": instance.id}),
        "past instances": ("/history/process-instance", {"processInstanceBusinessKey": key}),
        "past activities": ("/history/activity-instance", everything_of_it),
        "past variables": ("/history/variable-instance", everything_of_it),
        "past changes of variables": ("/history/detail", everything_of_it),
        "past tasks": ("/history/task", everything_of_it),
        "operations": ("/history/user-operation", everything_of_it),
        "definitions": ("/process-definition", {"tenantIdIn": tenant}),
        "tenants": ("/tenant", {"id": tenant}),
    }
    return {name: len(engine.rows(path, **query)) for name, (path, query) in lists.items()}


def test_an_approver_finds_nothing_of_another_tenant(shop: Shop, rival: Shop) -> None:
    offered = Offered.at(shop, "18")
    with logged_in(shop, RSM.id) as engine:
        engine.post(f"/task/{offered.task().id}/claim", {"userId": RSM.id})
    with hired("ben", APPROVERS, by=(rival,)) as stranger, logged_in(shop, stranger) as engine:
        found = seen(engine, offered)
        there_is = seen(shop.engine, offered)
        filters = [(row["name"], engine.get(f"/filter/{row['id']}/count")["count"]) for row in engine.rows("/filter")]

    assert 0 not in there_is.values(), there_is
    assert set(found.values()) == {0}, found
    assert filters == [("Regional sales managers", 0)]


def test_an_approver_reads_and_does_nothing_with_a_task_of_another_tenant(shop: Shop, rival: Shop) -> None:
    offered = Offered.at(shop, "18")
    task = offered.task()
    address, instance = f"/task/{task.id}", f"/process-instance/{task.process_instance_id}"
    decide = {"variables": {name: {"value": value, "type": "String"} for name, value in APPROVE.items()}}
    requests = [
        *(("GET", f"{address}{part}") for part in ("", "/variables", "/form-variables", "/deployed-form", "/identity-links")),
        *(("GET", f"{instance}{part}") for part in ("", "/variables", "/activity-instances")),
        *(("POST", f"{address}/{act}") for act in ("claim", "complete", "submit-form", "resolve", "unclaim", "bpmnError")),
    ]
    bodies: dict[str, Mapping[str, object]] = {"claim": {"userId": "ben"}, "bpmnError": {"errorCode": "APPROVAL_VOID"}}
    with hired("ben", APPROVERS, by=(rival,)) as stranger, logged_in(shop, stranger) as engine:
        allowed = [
            (method, path)
            for method, path in requests
            if not refused(engine, method, path, bodies.get(path.rpartition("/")[2], decide) if method == "POST" else None)
        ]

    assert allowed == []
    assert offered.task().id == task.id
    assert signed_by(shop) == []


def test_a_case_worker_resolves_no_case_of_another_tenant(shop: Shop, rival: Shop) -> None:
    shop.local.provider.faults.add(FaultKind.REJECT, step_code="CHECK_SERVICEABILITY", times=2)
    order_id = shop.accepted_order()
    case = shop.case_of(order_id)
    [asked] = eventually(lambda: shop.engine.user_tasks(resolution_key(shop.tenant_id, case.id)), "somebody is asked")

    with hired("bea", CASE_WORKERS, by=(rival,)) as stranger, logged_in(shop, stranger) as engine:
        assert engine.user_tasks(resolution_key(shop.tenant_id, case.id)) == []
        assert refused(engine, "POST", f"/task/{asked.id}/complete", {"variables": {"resolution": {"value": "FAIL_STEP"}}})

    assert shop.rows(FalloutCase, id=case.id)[0].resolution is None
    shop.local.provider.faults.clear()


def test_an_operator_sees_only_the_tenants_that_employ_them(shop: Shop, rival: Shop) -> None:
    offered = Offered.at(shop, "18")
    offered.task()
    with hired("olga", *OPERATOR.groups, by=(rival,)) as stranger, logged_in(shop, stranger) as engine:
        assert set(seen(engine, offered).values()) == {0}
    with hired("olaf", *OPERATOR.groups, by=(shop, rival)) as operator, logged_in(shop, operator) as engine:
        assert seen(engine, offered)["instances"] == 1


def test_a_person_in_two_tenants_signs_for_the_tenant_of_the_task(shop: Shop, rival: Shop) -> None:
    ours, theirs = Offered.at(shop, "18"), Offered.at(rival, "18")
    with hired("bob", APPROVERS, by=(shop, rival)) as both, logged_in(shop, both) as engine:
        authorize(shop, both)
        authorize(rival, both)
        assert ours.task()
        open_there = theirs.task()
        tenants = {row["tenantId"] for row in engine.rows("/task")}
        theirs.complete(both, open_there, **APPROVE, tenantId=str(shop.tenant_id))
        theirs.ends_as("APPROVED")

    assert tenants == {str(shop.tenant_id), str(rival.tenant_id)}
    assert (signed_by(rival), signed_by(shop)) == ([both], [])
    assert ours.task()


def test_authority_in_one_tenant_is_none_in_the_other(shop: Shop, rival: Shop) -> None:
    offered = Offered.at(rival, "18")
    task = offered.task()
    with hired("bob", APPROVERS, by=(shop, rival)) as both:
        authorize(shop, both)
        offered.complete(both, task, **APPROVE, tenantId=str(shop.tenant_id))
        again = offered.task(after=task.id)

    reason = rival.engine.task_variables(again.id)["decisionRefused"]
    assert reason.startswith(rf"{both}\: "), reason
    assert signed_by(rival) == []


def test_the_work_of_a_tenant_carries_it_from_the_first_process_to_the_last(shop: Shop) -> None:
    shop.accepted_order()
    shop.comes_to_rest()

    rows = shop.engine.rows("/history/process-instance", processInstanceBusinessKeyLike=f"%:{shop.tenant_id}:%")
    assert {row["processDefinitionKey"] for row in rows} >= {"quote-approval", "order-fulfillment", "fulfillment-step"}
    assert {UUID(row["tenantId"]) for row in rows} == {shop.tenant_id}
