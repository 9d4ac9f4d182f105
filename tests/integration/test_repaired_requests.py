"""A repaired request is a new one to the provider (decision 0019): it has a key of its own, and what is said of it names that key."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from domain.delivery import troubles
from domain.delivery.resolving import Resolution
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import triaging
from tests.support.fulfilment import ANNA, BERT, Fulfilment
from tests.support.offers import Offers

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order of which one step was rejected, with its case."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)
    step = work.step(RESERVE)
    with offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(step))
    return work


def test_a_repaired_request_is_a_new_one_to_the_provider(held: Fulfilment) -> None:
    """Kills: sending what was repaired under the key to which the provider has said no."""
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


def test_what_undoes_a_repaired_step_names_the_request_that_was_done(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY)
    done = held.start(RESERVE)
    held.say(RESERVE, StepEvent.COMPLETE)
    held.cancel()
    held.evaluate()

    assert held.start(f"undo {RESERVE}").compensates == done.idempotency_key


def test_what_may_have_had_its_effect_is_not_sent_again_as_another_request(offers: Offers) -> None:
    """Kills: a repair beside an attempt that nobody knows the end of; at a provider the two would count as two."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)  # of a step that nobody cancelled
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE provider_attempt SET status = 'UNKNOWN'"))
    work.claim(BERT)

    with pytest.raises(ResolutionNotAllowed):
        work.resolve(BERT, Resolution.REPAIR_AND_RETRY)
