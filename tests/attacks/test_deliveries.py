"""Case workers and managers who write more than their form asks for, with their own logins through the engine's REST.

Whoever completes a task may write any variable of its process. So no variable says which case, step or cancellation a decision is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row

from domain.delivery.cancellations import CancellationRequest
from domain.delivery.cancellations import business_key as cancellation_key
from domain.fallout.cases import FalloutCase, resolution_key
from domain.workflows.keys import Kind, key_of
from tests.support.logins import complete, hired, logged_in
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from workers.demo.people import FIRST_LEVEL, FULFILLMENT_MANAGER, OPERATOR, SECOND_LEVEL
from workers.runtime.engine import UserTask
from workers.sandbox.faults import FaultKind

pytestmark = pytest.mark.stack

CHECK = "CHECK_SERVICEABILITY"
MARK_COMPLETED = {"resolution": "MARK_COMPLETED", "externalReference": "CHECK-4711", "evidence": "Seen in the portal"}
ACCEPT = {"cancellationDecision": "ACCEPT", "assessmentReason": "GOOD_CUSTOMER"}
OUTSIDER = "otto"


@pytest.fixture
def outsider(shop: Shop) -> Iterator[str]:
    """Somebody who is in the groups, but has no authority in this tenant."""
    with hired(OUTSIDER, FIRST_LEVEL.groups[0], FULFILLMENT_MANAGER.groups[0], by=(shop,)) as outsider:
        yield outsider


@pytest.fixture
def rejected(shop: Shop) -> Iterator[None]:
    """The provider rejects one step of each order. It serves other tests after this one, so no fault stays behind."""
    shop.local.provider.faults.add(FaultKind.REJECT, step_code=CHECK, times=2)
    yield
    shop.local.provider.faults.clear()


def task(shop: Shop, key: str, *, after: str | None = None) -> UserTask:
    """Wait for the user task of a process, or for the one that follows task `after`."""
    return eventually(lambda: [each for each in shop.engine.user_tasks(key) if each.id != after], f"somebody is asked in {key}")[0]


@pytest.mark.usefixtures("rejected")
def test_a_resolution_cannot_be_pointed_at_another_case(shop: Shop) -> None:
    own, other = (shop.case_of(shop.accepted_order()) for _ in range(2))
    asked = task(shop, resolution_key(shop.tenant_id, own.id))
    forged = {"caseId": str(other.id), "stepId": str(other.step_id), "tenantId": str(uuid4()), "caseStatus": "CLOSED"}

    complete(shop, FIRST_LEVEL.id, asked, resolution="FAIL_STEP", evidence="The building is gone", **forged)

    eventually(lambda: shop.rows(FalloutCase, id=own.id)[0].resolution == "FAIL_STEP", "the own case is resolved")
    assert shop.rows(FalloutCase, id=other.id)[0].version == other.version


@pytest.mark.usefixtures("rejected")
def test_nobody_becomes_the_owner_of_a_case_by_the_claim_of_another(shop: Shop) -> None:
    case = shop.case_of(shop.accepted_order())
    asked = task(shop, resolution_key(shop.tenant_id, case.id))

    with logged_in(shop, FIRST_LEVEL.id) as engine:
        engine.post(f"/task/{asked.id}/claim", {"userId": SECOND_LEVEL.id})

    eventually(lambda: task(shop, resolution_key(shop.tenant_id, case.id)).assignee is None, "the task is given back")
    assert shop.rows(FalloutCase, id=case.id)[0].owner_user_id is None


@pytest.mark.usefixtures("rejected")
def test_the_second_person_cannot_replace_what_the_first_has_proposed(shop: Shop) -> None:
    case = shop.case_of(shop.accepted_order())
    complete(shop, FIRST_LEVEL.id, task(shop, resolution_key(shop.tenant_id, case.id)), **MARK_COMPLETED)
    asked = task(shop, key_of(Kind.CONFIRMATION, shop.tenant_id, case.id))
    assert shop.engine.task_variables(asked.id)["proposedReference"] == r"CHECK\-4711"

    complete(shop, SECOND_LEVEL.id, asked, confirmed=True, externalReference="FORGED", evidence="made up", resolution="SKIP")

    eventually(lambda: shop.rows(FalloutCase, id=case.id)[0].resolution, "the case is resolved")
    [resolved] = shop.rows(FalloutCase, id=case.id)
    assert (resolved.resolution, resolved.external_ref, resolved.resolution_evidence, resolved.resolved_by) == (
        *("MARK_COMPLETED", "CHECK-4711"),
        *("Seen in the portal", FIRST_LEVEL.id),
    )


@pytest.mark.usefixtures("rejected")
def test_a_case_worker_without_authority_in_this_tenant_gets_the_task_back(shop: Shop, outsider: str) -> None:
    case = shop.case_of(shop.accepted_order())
    key = resolution_key(shop.tenant_id, case.id)
    asked = task(shop, key)

    complete(shop, outsider, asked, resolution="FAIL_STEP", evidence="made up")

    again = task(shop, key, after=asked.id)
    assert shop.engine.task_variables(again.id)["resolutionRefused"].startswith(
        rf"{outsider}\: The case is in a queue that you do not"
    )
    assert shop.rows(FalloutCase, id=case.id)[0].resolution is None


@pytest.mark.usefixtures("rejected")
def test_an_operator_who_fires_a_timer_before_its_time_escalates_no_case(shop: Shop) -> None:
    case = shop.case_of(shop.accepted_order())
    key = resolution_key(shop.tenant_id, case.id)
    asked = task(shop, key)
    with logged_in(shop, OPERATOR.id) as engine:
        [job] = engine.rows("/job", processInstanceId=asked.process_instance_id, activityId="claim-due")
        engine.post(f"/job/{job['id']}/execute", {})

    task(shop, key, after=asked.id)

    assert (shop.rows(FalloutCase, id=case.id)[0].queue, case.queue) == (FIRST_LEVEL.groups[0], FIRST_LEVEL.groups[0])


def a_large_order(shop: Shop) -> UUID:
    """An order of so much value that the rules leave its cancellation to a person."""
    sample = new_sample("5")
    shop.driver.offer(sample)
    shop.driver.wait_for(sample, "APPROVED")
    shop.driver.edit(sample, quantity=30)
    shop.driver.submit_again(sample)
    shop.driver.document(sample)
    return UUID(shop.driver.accept(sample))


def unwanted(shop: Shop) -> Row[Any]:
    """A request to cancel such an order, after its first step was completed."""
    order_id = a_large_order(shop)
    shop.case_of(order_id)
    eventually(lambda: any(each["status"] == "COMPLETED" for each in shop.order(order_id)["steps"]), "a step is completed")
    shop.api.cancel_order(shop.order(order_id)).expect(201)
    return shop.rows(CancellationRequest, order_id=order_id)[0]


@pytest.mark.usefixtures("rejected")
def test_only_a_manager_with_authority_decides_on_a_cancellation_and_on_no_other(shop: Shop, outsider: str) -> None:
    own, other = unwanted(shop), unwanted(shop)
    key = cancellation_key(shop.tenant_id, own.id)
    forged = {"cancellationId": str(other.id), "orderId": str(other.order_id), "decisionReason": "UNDOABLE", "isOpen": False}
    asked = task(shop, key)

    complete(shop, outsider, asked, **ACCEPT, **forged)

    again = task(shop, key, after=asked.id)
    refused = shop.engine.task_variables(again.id)["assessmentRefused"]
    assert refused.startswith(rf"{outsider}\: You may not decide on this cancellation")
    complete(shop, FULFILLMENT_MANAGER.id, again, **ACCEPT, **forged)
    eventually(lambda: shop.rows(CancellationRequest, id=own.id)[0].decided_by, "the cancellation is decided")
    decided = shop.rows(CancellationRequest, id=own.id)[0]
    assert (decided.decided_by, decided.decision_reason) == (FULFILLMENT_MANAGER.id, "GOOD_CUSTOMER")
    assert shop.rows(CancellationRequest, id=other.id)[0].decided_by is None
