"""An order is cancelled on the whole stack: the step under way is cancelled, completed steps are undone, its process ends."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from domain.delivery import cancelling
from domain.delivery.cancellations import CancellationRequest
from domain.store import Cause, unit_of_work
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.sandbox.faults import FaultKind

pytestmark = pytest.mark.stack

PROVISION = "PROVISION_SERVICE"


def cancel(shop: Shop, order_id: UUID) -> None:
    order = shop.order(order_id)
    command = cancelling.RequestCancellation(
        order_id=order_id,
        expected_version=order["version"],
        expected_status=order["status"],
        reason="CHANGED_MIND",
        requested_by="carla",
    )
    with unit_of_work(shop.database, Cause(tenant_id=shop.tenant_id, actor="carla", command="cancel-order")) as uow:
        cancelling.request(uow, command)


def steps(shop: Shop, order_id: UUID) -> dict[str, str]:
    return {step["stepCode"]: step["status"] for step in shop.order(order_id)["steps"] if step["kind"] == "FULFILL"}


def wait_for_status(shop: Shop, order_id: UUID, status: str) -> dict[str, Any]:
    eventually(lambda: shop.order(order_id)["status"] == status, f"order {order_id} is {status}", patience=60)
    return shop.order(order_id)


def test_an_order_that_is_cancelled_while_a_step_is_under_way_leaves_no_effect(shop: Shop) -> None:
    shop.local.provider.ledger._latency = shop.local.provider.ledger._latency * 100
    try:
        order_id = shop.accepted_order()
        eventually(lambda: steps(shop, order_id).get(PROVISION) == "IN_PROGRESS", "the service is being provisioned", patience=60)

        cancel(shop, order_id)
        order = wait_for_status(shop, order_id, "CANCELLED")
    finally:
        shop.local.provider.ledger._latency = shop.local.provider.ledger._latency / 100

    assert steps(shop, order_id)[PROVISION] == "CANCELLED"
    undone = {step["stepCode"] for step in order["steps"] if step["kind"] == "COMPENSATE" and step["status"] == "COMPLETED"}
    assert undone == {"RESERVE_INVENTORY", "CHECK_SERVICEABILITY"}
    [request] = shop.rows(CancellationRequest)
    assert (request.status, request.decided_by, request.decision_reason) == ("DONE", "policy", "UNDOABLE")
    fulfilling = {UUID(step["stepId"]) for step in order["steps"] if step["kind"] == "FULFILL"}
    assert {entry["net"] for step_id, entry in shop.ledger().items() if step_id in fulfilling} == {0}
    shop.processes_end()


def test_a_completed_step_whose_provider_refuses_ends_the_order_partly(shop: Shop) -> None:
    shop.local.provider.faults.add(FaultKind.REFUSE_CANCEL, step_code=PROVISION)
    shop.local.provider.faults.add(FaultKind.DELAY_CALLBACK, step_code=PROVISION)
    order_id = shop.accepted_order()
    eventually(lambda: steps(shop, order_id).get(PROVISION) == "IN_PROGRESS", "the service is being provisioned", patience=60)

    cancel(shop, order_id)
    order = wait_for_status(shop, order_id, "PARTIALLY_FULFILLED")

    assert {step["stepCode"]: step["status"] for step in order["steps"]}[PROVISION] == "COMPLETED"
    [request] = shop.rows(CancellationRequest)
    assert request.status == "DONE_PARTIAL"
    shop.processes_end()
