"""Fallout cases: one open case for each trouble, and one owner at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select, text

from domain.delivery import troubles
from domain.delivery.resolving import Resolution
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import casework, triaging
from domain.fallout.casework import FalloutCaseConflict, QueueNotYours
from domain.store import table_of
from domain.store.facts import WorkflowCommand, WorkflowCommandKind
from tests.support.fulfilment import Fulfilment
from tests.support.held import RESERVE, open_case
from tests.support.offers import ANNA, BERT, MONA, Offers


def test_one_trouble_opens_one_case(held: Fulfilment) -> None:
    open_case(held)

    assert (held.case().status, held.case().queue, held.case().case_number[:2]) == ("OPEN", "falloutL1", "F-")


def test_the_second_claim_is_refused_and_names_the_owner(held: Fulfilment) -> None:
    seen = held.case().version
    claimed = held.claim(ANNA)

    with pytest.raises(FalloutCaseConflict, match="anna"):
        held.claim(BERT, expected_version=seen)

    assert (claimed.status, claimed.owner_user_id, claimed.version) == ("IN_PROGRESS", ANNA, seen + 1)


def test_a_case_whose_lease_has_run_out_can_be_claimed_once(held: Fulfilment) -> None:
    held.claim(ANNA)
    with held.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET claim_expires_at = clock_timestamp()"))
    seen = held.case().version

    held.claim(BERT, expected_version=seen)

    with pytest.raises(FalloutCaseConflict):
        held.claim(MONA, expected_version=seen)
    assert held.case().owner_user_id == BERT


def test_a_person_works_on_their_own_level_and_those_below(held: Fulfilment) -> None:
    with held.offers.uow(ANNA) as uow:
        casework.hand_on(uow, held.as_seen(ANNA))

    with pytest.raises(QueueNotYours):
        held.claim(ANNA)
    assert held.claim(MONA).queue == "falloutL2"


def test_a_trouble_that_comes_back_reopens_its_case(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.RETRY)
    held.start(RESERVE)
    held.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)

    open_case(held)

    assert (held.case().status, held.case().reopen_count) == ("OPEN", 1)


def test_a_case_that_is_reopened_tells_what_came_back(held: Fulfilment) -> None:
    """Kills: leaving what was told before. A person would read of a failure that is over, and decide about that."""
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.RETRY)
    held.start(RESERVE)
    held.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.UNCLEAR, reason="a page of HTML")

    with held.offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(held.step(RESERVE)))

    case = held.case()
    assert (case.type, case.severity, case.status, case.queue) == ("OUTCOME_UNKNOWN", "HIGH", "OPEN", "falloutL1")
    assert (case.detail, case.evidence["failureClass"]) == (f"{RESERVE} is held (UNCLEAR): a page of HTML.", "UNCLEAR")


@pytest.mark.parametrize(
    "end", [lambda held: held.resolve(ANNA, Resolution.RETRY), lambda held: held.say(RESERVE, StepEvent.COMPLETE)]
)
def test_the_assignment_of_a_case_expires_when_nobody_is_asked_any_more(
    held: Fulfilment, end: Callable[[Fulfilment], object]
) -> None:
    """Kills: looking for a user task until the assignment expires by itself. A case may be resolved before its process asks anybody."""
    held.claim(ANNA)
    assert assignments(held) == [("PENDING", None)]

    end(held)

    assert assignments(held) == [("EXPIRED", "RESOLVED")]


def assignments(held: Fulfilment) -> list[tuple[str, str | None]]:
    """Status and outcome of each request to assign a user task, oldest first."""
    command = table_of(WorkflowCommand).c
    query = select(command.status, command.outcome).where(command.kind == WorkflowCommandKind.ASSIGN_TASK)
    with held.offers.engine.connect() as connection:
        return [(row.status, row.outcome) for row in connection.execute(query.order_by(command.position))]


def test_a_late_completion_closes_the_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    held.say(RESERVE, StepEvent.COMPLETE)

    assert (held.case().status, held.case().resolution, held.case().owner_user_id) == ("CLOSED", "COMPLETED_BY_THE_PROVIDER", None)


def test_a_case_that_waits_or_is_on_hold_keeps_its_owner_without_a_lease(held: Fulfilment) -> None:
    held.claim(ANNA)
    with held.offers.uow(ANNA) as uow:
        casework.request_information(uow, held.as_seen(ANNA), "Which article?")
    assert (held.case().status, held.case().owner_user_id, held.case().claim_expires_at) == ("AWAITING_INFORMATION", ANNA, None)
    with held.offers.uow("sally") as uow:
        casework.receive_information(uow, held.as_seen(ANNA), "The white one.")
    with held.offers.uow(ANNA) as uow:
        casework.hold(uow, held.as_seen(ANNA), "until Monday")
    with held.offers.uow(ANNA) as uow:
        casework.resume(uow, held.as_seen(ANNA))

    assert held.case().status == "IN_PROGRESS"
    with held.offers.uow(ANNA) as uow:
        assert casework.release(uow, held.as_seen(ANNA)).status == "OPEN"


def test_a_cancelled_order_cancels_the_case_of_a_step_without_effect(held: Fulfilment) -> None:
    held.cancel()
    held.evaluate()

    assert (held.step(RESERVE).status, held.case().status, held.status) == ("CANCELLED", "CANCELLED", "CANCELLED")


def test_a_completion_of_a_pending_step_holds_it_and_opens_a_case(offers: Offers) -> None:
    work = Fulfilment.running(offers)

    work.say(RESERVE, StepEvent.COMPLETE, external_event_id="e-1")

    assert (work.step(RESERVE).status, work.case().type) == ("HELD", "CONTRADICTORY_CALLBACK")
    [contradiction] = work.contradictions()
    assert (contradiction.said, contradiction.known, contradiction.external_event_id) == ("COMPLETE", "PENDING", "e-1")


def test_a_late_failure_of_a_completed_step_keeps_it_and_opens_a_case(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(RESERVE)

    work.say(RESERVE, StepEvent.FAIL_FINALLY)

    assert (work.step(RESERVE).status, work.case().type, work.case().status) == ("COMPLETED", "CONTRADICTORY_CALLBACK", "OPEN")


def test_a_second_completion_under_another_reference_is_a_contradiction(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(RESERVE)

    work.say(RESERVE, StepEvent.COMPLETE, external_ref=f"ref of {RESERVE}")
    assert work.cases() == []
    work.say(RESERVE, StepEvent.COMPLETE, external_ref="another")

    assert (work.step(RESERVE).external_ref, work.case().type) == (f"ref of {RESERVE}", "CONTRADICTORY_CALLBACK")
