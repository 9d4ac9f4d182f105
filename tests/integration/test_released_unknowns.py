"""A person lets a request be sent again of which nobody knows what became: until the provider tells, it may have had its effect."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from domain.delivery import troubles
from domain.delivery.fulfilling import OutcomeSource
from domain.delivery.resolving import Resolution
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent, StepOutcomeUnknown
from domain.fallout import triaging
from tests.support.fulfilment import Fulfilment
from tests.support.handled import handler_of, task_of
from tests.support.offers import ANNA, Offers

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def released(offers: Offers) -> Fulfilment:
    """An order with a step whose request was sent, and that a person has let be sent again after an hour of silence."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.infer(RESERVE, StepEvent.FIND_UNCLEAR)
    open_case(work)
    work.claim(ANNA)
    work.resolve(ANNA, Resolution.RETRY)
    return work


def open_case(work: Fulfilment) -> None:
    with work.offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(work.step(RESERVE)))


def attempts(work: Fulfilment) -> list[str]:
    with work.offers.engine.connect() as connection:
        found = text("SELECT status FROM provider_attempt WHERE command = 'EXECUTE' ORDER BY attempt_no")
        return list(connection.scalars(found))


def refused_again(work: Fulfilment) -> None:
    """The provider refuses the request as it is now: a word about this attempt alone."""
    started = work.start(RESERVE)
    about = {"attempt_id": started.attempt_id, "failure_class": FailureClass.CONTRACT}
    work.say(RESERVE, StepEvent.FAIL_FINALLY, OutcomeSource.RESPONSE, **about)


def test_its_order_is_cancelled_only_when_the_provider_has_told(released: Fulfilment) -> None:
    """Kills: an order that counts as cancelled while its effect is at the provider, because nobody was asked."""
    released.cancel()

    assert (released.step(RESERVE).status, attempts(released)) == ("CANCEL_REQUESTED", ["UNKNOWN"])
    released.infer(RESERVE, StepEvent.FIND_ABSENT)
    assert (released.step(RESERVE).status, attempts(released)) == ("CANCELLED", ["ABSENT"])


def test_a_repeat_that_never_left_does_not_cancel_it_either(released: Fulfilment) -> None:
    again = released.start(RESERVE)
    released.cancel()

    released.say(RESERVE, StepEvent.FAIL_WITHOUT_EFFECT, OutcomeSource.RESPONSE, attempt_id=again.attempt_id)

    assert (released.step(RESERVE).status, attempts(released)) == ("CANCEL_REQUESTED", ["UNKNOWN", "FAILED"])


def test_a_repaired_request_is_not_sent_beside_it(released: Fulfilment) -> None:
    """Kills: two effects under two keys."""
    refused_again(released)
    open_case(released)
    released.claim(ANNA)

    with pytest.raises(ResolutionNotAllowed):
        released.resolve(ANNA, Resolution.REPAIR_AND_RETRY)

    assert attempts(released) == ["REPEATED", "FAILED"]


def test_its_cancellation_after_another_refusal_asks_the_provider(released: Fulfilment) -> None:
    refused_again(released)

    released.cancel()

    assert (released.step(RESERVE).status, attempts(released)) == ("CANCEL_REQUESTED", ["UNKNOWN", "FAILED"])


@pytest.mark.parametrize(
    ("said", "known"),
    [
        (StepEvent.COMPLETE, ["SUCCEEDED", "SUCCEEDED"]),
        (StepEvent.FAIL_FINALLY, ["FAILED", "FAILED"]),
        (StepEvent.ACKNOWLEDGE, ["FAILED", "ACKNOWLEDGED"]),
    ],
)
def test_the_providers_word_about_the_repeat_is_one_about_the_first_too(
    released: Fulfilment, said: StepEvent, known: list[str]
) -> None:
    released.start(RESERVE)

    released.say(RESERVE, said, external_ref="REF-1", failure_class=FailureClass.REJECTED)

    assert attempts(released) == known


@pytest.mark.parametrize("resolution", [Resolution.CANCEL_STEP, Resolution.FAIL_STEP])
def test_a_persons_last_word_settles_it(released: Fulfilment, resolution: Resolution) -> None:
    refused_again(released)
    open_case(released)
    released.claim(ANNA)

    released.resolve(ANNA, resolution)

    assert attempts(released) == ["FAILED", "FAILED"]


class TestAKeyThatTheProviderMayHaveForgotten:
    """The window of the key is over when the request is to be sent again."""

    @pytest.fixture
    def late(self, released: Fulfilment) -> Fulfilment:
        with released.offers.engine.begin() as connection:
            connection.execute(text("UPDATE provider_attempt SET sent_at = sent_at - interval '25 hours'"))
        return released

    def test_is_not_used_again(self, late: Fulfilment) -> None:
        """Kills: an effect that comes twice, because the provider takes the old key for a new one."""
        with pytest.raises(StepOutcomeUnknown):
            late.start(RESERVE)

    def test_gives_the_step_back_to_a_person(self, late: Fulfilment) -> None:
        told: dict[str, Any] = handler_of(late).execute(*task_of(late, RESERVE))

        assert (told["stepOutcome"], told["failureClass"]) == ("HELD", "UNCLEAR")
        assert attempts(late) == ["REPEATED"]
