"""What a provider says late of a request that a person has repaired since: it settles nothing of the request that counts now."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from domain.delivery import callbacks, troubles
from domain.delivery.callbacks import ProcessedStatus, ReceiveCallback
from domain.delivery.resolving import Resolution
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import triaging
from domain.store import CellKind
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, Offers

RESERVE = "RESERVE_INVENTORY"
FIRST, UNHEARD_OF = "the provider's first", "an id that no reply had"
REJECTED, COMPLETED = "step.rejected", "step.completed"


def rejected(offers: Offers, request_id: str | None) -> Fulfilment:
    """An order whose step the provider has rejected, under an id of its own or without."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED, external_request_id=request_id)
    with offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(work.step(RESERVE)))
    work.claim(ANNA)
    return work


def sent_again(work: Fulfilment) -> Fulfilment:
    work.resolve(ANNA, Resolution.REPAIR_AND_RETRY)
    work.start(RESERVE)
    return work


@pytest.fixture
def repaired(offers: Offers) -> Fulfilment:
    """A step whose first request was rejected, and whose repaired one is under way."""
    return sent_again(rejected(offers, FIRST))


def receive(work: Fulfilment, event_type: str, request_id: str | None, external_ref: str | None = None) -> ProcessedStatus:
    event_id = f"evt-{uuid4()}"
    command = ReceiveCallback(
        provider_name="sandbox",
        external_event_id=event_id,
        event_type=event_type,
        step_id=work.step(RESERVE).id,
        external_ref=external_ref,
        external_request_id=request_id,
        external_event_at=None,
        payload={"eventId": event_id},
    )
    with work.offers.uow("provider:sandbox") as uow:
        return callbacks.receive(uow, command).processed_status


def requests(work: Fulfilment) -> list[tuple[str, Any]]:
    """The status of each request to carry the step out, and the provider's id of it."""
    query = text("SELECT status, external_request_id FROM provider_attempt WHERE command = 'EXECUTE' ORDER BY attempt_no")
    with work.offers.engine.connect() as connection:
        return [(row.status, row.external_request_id) for row in connection.execute(query)]


def test_a_late_rejection_leaves_the_repaired_request_alone(repaired: Fulfilment) -> None:
    """Kills: settling the live request by a reply about an earlier one, so that a third request can be sent beside it."""
    assert receive(repaired, REJECTED, FIRST) == ProcessedStatus.NO_EFFECT

    assert (repaired.step(RESERVE).status, requests(repaired)) == ("IN_PROGRESS", [("FAILED", FIRST), ("SENT", None)])


@pytest.mark.parametrize("event", [StepEvent.FAIL_FINALLY, StepEvent.ACKNOWLEDGE, StepEvent.CONFIRM_CANCEL])
def test_a_reply_that_a_worker_or_a_question_brings_late_leaves_it_alone_too(repaired: Fulfilment, event: StepEvent) -> None:
    assert repaired.say(RESERVE, event, request_no=1) is CellKind.KEEP

    assert (repaired.step(RESERVE).status, requests(repaired)[1]) == ("IN_PROGRESS", ("SENT", None))


def test_a_late_completion_is_a_contradiction_and_calls_a_person(repaired: Fulfilment) -> None:
    """Kills: counting the step as done by an effect that nobody wants any more, while the wanted one is under way."""
    assert receive(repaired, COMPLETED, FIRST, "REF-1") == ProcessedStatus.CONTRADICTION

    step = repaired.step(RESERVE)
    assert (step.status, step.external_ref, requests(repaired)[1]) == ("IN_PROGRESS", None, ("SENT", None))
    case = repaired.cases(type="CONTRADICTORY_CALLBACK")[0]
    assert (case.evidence["requestNo"], case.evidence["externalRef"]) == (1, "REF-1")
    assert repaired.say(RESERVE, StepEvent.COMPLETE, external_ref="REF-2") is CellKind.MOVE


@pytest.mark.parametrize(("event_type", "status"), [(COMPLETED, "COMPLETED"), (REJECTED, "HELD")])
def test_an_id_that_no_reply_had_is_that_of_the_request_whose_reply_was_lost(
    repaired: Fulfilment, event_type: str, status: str
) -> None:
    receive(repaired, event_type, UNHEARD_OF, "REF-2")

    assert repaired.step(RESERVE).status == status


@pytest.mark.parametrize(("event_type", "status"), [(COMPLETED, "COMPLETED"), (REJECTED, "IN_PROGRESS")])
def test_when_nothing_tells_a_rejection_is_taken_for_the_earlier_one_told_again(
    offers: Offers, event_type: str, status: str
) -> None:
    work = sent_again(rejected(offers, None))

    receive(work, event_type, UNHEARD_OF, "REF-2")

    assert work.step(RESERVE).status == status


def test_the_reference_of_a_refused_cancellation_is_not_that_of_the_step(offers: Offers) -> None:
    """Kills: a completion that is taken for another one, because a reply about something else had filled its place."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)

    work.say(RESERVE, StepEvent.REFUSE_CANCEL, external_ref="CANCELLATION-1", external_request_id="cancellation")

    assert (work.step(RESERVE).external_ref, requests(work)) == (None, [("ACKNOWLEDGED", None)])
    assert work.say(RESERVE, StepEvent.COMPLETE, external_ref="REF-1") is CellKind.MOVE
    assert work.step(RESERVE).external_ref == "REF-1"
