"""Orders that are not evaluated after a change of their steps, because a process died between the two transactions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from domain.delivery import reading
from domain.delivery.resolving import Resolution
from domain.delivery.steps import StepEvent
from reconciliation.orders import Orders
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, Offers
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
    while waiting:
        with offers.uow() as uow:
            ready = [code for code in waiting if reading.readiness(uow, order.steps[code]) == "READY"]
        complete(offers, order, *ready)
        waiting -= set(ready)
        assert sweep(offers) == 1
        assert sweep(offers) == 0

    assert offers.order(order.order_id).status == "FULFILLED"
    assert set(actions(offers)) == {"evaluated"}


def test_an_order_that_its_worker_may_still_evaluate_is_left_alone(offers: Offers) -> None:
    order = offers.running_order()
    complete(offers, order, RESERVE, CHECK)

    assert sweep(offers, grace=NEVER) == 0


@pytest.fixture
def in_work(held: Fulfilment) -> Fulfilment:
    """An order held by one step, whose case is claimed. The step beside it is done."""
    held.complete(CHECK)
    held.claim(ANNA)
    return held


@pytest.mark.parametrize("resolution", [Resolution.FAIL_STEP, Resolution.CANCEL_STEP])
def test_steps_behind_one_that_a_person_has_ended_are_cancelled_by_a_later_evaluation(
    in_work: Fulfilment, resolution: Resolution
) -> None:
    in_work.resolve_only(ANNA, resolution)

    assert [sweep(in_work.offers), sweep(in_work.offers)] == [1, 0]

    assert in_work.status == "PARTIALLY_FULFILLED"


def test_an_order_whose_held_step_is_tried_again_goes_on_after_a_later_evaluation(in_work: Fulfilment) -> None:
    in_work.resolve_only(ANNA, Resolution.RETRY)

    assert [sweep(in_work.offers), sweep(in_work.offers)] == [1, 0]

    assert in_work.status == "IN_PROGRESS"


def test_an_order_without_a_step_that_can_go_on_is_held_by_a_later_evaluation(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(CHECK)
    work.start(RESERVE)
    work.say_only(RESERVE, StepEvent.FAIL_FINALLY)

    assert [sweep(offers), sweep(offers)] == [1, 0]

    assert work.status == "HELD"


def test_a_step_that_turned_out_absent_during_a_cancellation_is_cancelled_by_a_later_evaluation(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(CHECK)
    work.start(RESERVE)
    work.infer(RESERVE, StepEvent.TIME_OUT)
    work.ask_to_cancel()
    work.decide(accept=True)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET status = 'RETRYABLE' WHERE step_code = 'RESERVE_INVENTORY'"))
        connection.execute(text("UPDATE provider_attempt SET status = 'ABSENT' WHERE status IN ('SENT', 'UNKNOWN')"))

    assert [sweep(offers), sweep(offers)] == [1, 0]

    assert work.states()[RESERVE] == "CANCELLED"


def sweep(offers: Offers, grace: timedelta = NOW) -> int:
    database = acting(offers.engine, "reconcile")
    return Orders(database, Repairs(database, dry_run=False), grace).sweep()
