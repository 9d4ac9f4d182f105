"""Orders whose last worker died between the step's transaction and the evaluation."""

from __future__ import annotations

from domain.delivery import reading
from reconciliation.orders import Orders
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.reconciling import (
    NEVER,
    NOW,
    actions,
    complete,
)

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"


def test_an_order_whose_last_worker_died_before_the_evaluation_is_evaluated(offers: Offers) -> None:
    order = offers.running_order()
    waiting = set(order.steps)
    sweep_orders = Orders(
        acting(offers.engine, "reconcile"), Repairs(acting(offers.engine, "reconcile"), dry_run=False), grace=NOW
    ).sweep
    while waiting:
        with offers.uow() as uow:
            ready = [code for code in waiting if reading.readiness(uow, order.steps[code]) == "READY"]
        complete(offers, order, *ready)
        waiting -= set(ready)
        assert sweep_orders() == 1
        assert sweep_orders() == 0

    assert offers.order(order.order_id).status == "FULFILLED"
    assert set(actions(offers)) == {"evaluated"}


def test_an_order_that_its_worker_may_still_evaluate_is_left_alone(offers: Offers) -> None:
    order = offers.running_order()
    complete(offers, order, RESERVE, CHECK)

    assert (
        Orders(acting(offers.engine, "reconcile"), Repairs(acting(offers.engine, "reconcile"), dry_run=False), grace=NEVER).sweep()
        == 0
    )
