"""A repaired request is a new one to the provider (decision 0019): it has a key of its own, and what is said of it names that key."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from domain.delivery import troubles
from domain.delivery.resolving import Resolution
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import triaging
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, Offers

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a held step, which the provider rejected, and its case."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)
    step = work.step(RESERVE)
    with offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(step))
    return work


def test_a_repaired_request_is_a_new_one_to_the_provider(held: Fulfilment) -> None:
    """Kills: sending a repaired request under the key of the rejected one."""
    rejected = held.step(RESERVE)
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY)

    again = held.start(RESERVE)

    assert again.idempotency_key == f"fulfillment:{rejected.id}:EXECUTE:2"
    held.cancel()
    cancellation = held.start_cancelling(RESERVE)
    assert (cancellation.idempotency_key, cancellation.request_key) == (
        f"fulfillment:{rejected.id}:CANCEL:2",
        again.idempotency_key,
    )


def test_the_undo_of_a_repaired_step_names_the_request_that_completed(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY)
    done = held.start(RESERVE)
    held.say(RESERVE, StepEvent.COMPLETE)
    held.cancel()
    held.evaluate()

    assert held.start(f"undo {RESERVE}").compensates == done.idempotency_key


def test_a_request_that_may_have_taken_effect_is_not_repaired(offers: Offers) -> None:
    """Kills: a repair beside an attempt with an unknown outcome; the provider would carry out both."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)  # of a step that is not being cancelled
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE provider_attempt SET status = 'UNKNOWN'"))
    work.claim(BERT)

    with pytest.raises(ResolutionNotAllowed):
        work.resolve(BERT, Resolution.REPAIR_AND_RETRY)
