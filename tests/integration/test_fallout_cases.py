"""Fallout cases: one open case for each trouble, one owner at a time, and a resolution that names the versions that were seen."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from domain.delivery import cases_shown, resolving, troubles
from domain.delivery.proposing import OwnProposal, StaleProposal
from domain.delivery.resolving import EvidenceMissing, Resolution, SecondPersonMissing
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent, StepVersionConflict
from domain.errors import Refusal
from domain.fallout import casework, triaging
from domain.fallout.cases import FalloutType
from domain.fallout.casework import FalloutCaseConflict, QueueNotYours, ResolutionNeedsAuthority
from domain.fallout.triaging import OpenCase
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, MONA, Offers

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a held step, which the provider rejected, and the case that its process opened."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED, reason="no such article")
    open_case(work)
    return work


def open_case(work: Fulfilment) -> None:
    step = work.step(RESERVE)
    command = OpenCase(
        type=FalloutType.PROVIDER_REJECTED,
        dedupe_key=troubles.held_step_key(step.id),
        detail="no such article",
        order_id=work.order_id,
        step_id=step.id,
    )
    with work.offers.uow("worker") as uow:
        triaging.open_case(uow, command)


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


def test_a_retry_releases_the_step_and_its_success_closes_the_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    resolved = held.resolve(ANNA, Resolution.RETRY)
    assert (resolved.status, held.step(RESERVE).status, held.step(RESERVE).failure_class) == ("RESOLVED", "RETRYABLE", "RELEASED")
    held.complete(RESERVE)

    assert (held.case().status, held.step(RESERVE).status) == ("CLOSED", "COMPLETED")


def test_a_trouble_that_comes_back_reopens_its_case(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.RETRY)
    held.start(RESERVE)
    held.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)

    open_case(held)

    assert (held.case().status, held.case().reopen_count) == ("OPEN", 1)


def test_a_late_completion_closes_the_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    held.say(RESERVE, StepEvent.COMPLETE)

    assert (held.case().status, held.case().resolution, held.case().owner_user_id) == ("CLOSED", "COMPLETED_BY_THE_PROVIDER", None)


def test_a_resolution_loses_to_a_completion_that_was_committed_first(held: Fulfilment) -> None:
    held.claim(ANNA)
    case, step = held.case(), held.step(RESERVE)
    held.say(RESERVE, StepEvent.COMPLETE)

    with pytest.raises(FalloutCaseConflict):
        held.resolve(ANNA, Resolution.RETRY, expected_version=case.version, expected_step_version=step.version)

    assert held.step(RESERVE).status == "COMPLETED"


def test_a_resolution_on_an_older_version_of_the_step_is_refused(held: Fulfilment) -> None:
    held.claim(ANNA)

    with pytest.raises(StepVersionConflict):
        held.resolve(ANNA, Resolution.RETRY, expected_step_version=1)

    assert held.case().status == "IN_PROGRESS"


def test_a_step_is_marked_completed_by_two_people(held: Fulfilment) -> None:
    held.claim(ANNA)
    with pytest.raises(SecondPersonMissing):
        held.resolve(ANNA, Resolution.MARK_COMPLETED, external_ref="r-7")
    proposal_id = held.propose(ANNA, external_ref="r-7")

    held.answer_proposal(BERT, proposal_id)

    assert (held.step(RESERVE).status, held.step(RESERVE).external_ref, held.case().status) == ("COMPLETED", "r-7", "CLOSED")
    assert (held.case().resolved_by, held.case().external_ref) == (ANNA, "r-7")


def test_a_person_does_not_confirm_their_own_proposal(held: Fulfilment) -> None:
    held.claim(BERT)
    proposal_id = held.propose(BERT, external_ref="r-7")

    with pytest.raises(OwnProposal):
        held.answer_proposal(BERT, proposal_id)

    assert held.case().status == "IN_PROGRESS"


def test_a_proposal_about_an_earlier_state_of_the_case_is_not_confirmed(held: Fulfilment) -> None:
    held.claim(ANNA)
    proposal_id = held.propose(ANNA, external_ref="r-7")
    with held.offers.uow(ANNA) as uow:
        casework.hold(uow, held.as_seen(ANNA), "until Monday")

    with pytest.raises(StaleProposal):
        held.answer_proposal(BERT, proposal_id)

    assert held.step(RESERVE).status == "HELD"


def test_a_proposal_that_is_declined_leaves_the_case_with_its_owner_and_keeps_the_reason(held: Fulfilment) -> None:
    held.claim(ANNA)
    proposal_id = held.propose(ANNA, external_ref="r-7")

    held.answer_proposal(BERT, proposal_id, confirm=False, text="The portal has no r-7.")

    assert (held.case().status, held.case().owner_user_id) == ("IN_PROGRESS", ANNA)
    with held.offers.uow() as uow:
        [note] = cases_shown.case(uow, held.case(), held.as_seen(ANNA))["notes"]
    assert (note["kind"], note["author"], note["text"]) == ("DECLINED", BERT, "The portal has no r-7.")


def test_what_another_reference_was_confirmed_for_is_not_marked_completed(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.propose(ANNA, external_ref="r-7")

    with pytest.raises(SecondPersonMissing):
        held.resolve(ANNA, Resolution.MARK_COMPLETED, external_ref="r-8")


@pytest.mark.parametrize(
    ("person", "resolution", "changes", "refusal"),
    [
        (ANNA, Resolution.SKIP, {}, ResolutionNeedsAuthority),
        (ANNA, Resolution.REPAIR_AND_RETRY, {"evidence": " "}, EvidenceMissing),
        (ANNA, Resolution.MARK_COMPLETED, {}, EvidenceMissing),
        (ANNA, Resolution.KEEP_AS_IS, {}, ResolutionNotAllowed),
        (BERT, Resolution.COMPENSATE, {}, ResolutionNotAllowed),
    ],
    ids=str,
)
def test_a_resolution_that_does_not_fit_is_refused_and_changes_nothing(
    held: Fulfilment, person: str, resolution: Resolution, changes: dict[str, Any], refusal: type[Refusal]
) -> None:
    held.claim(person)

    with pytest.raises(refusal):
        held.resolve(person, resolution, **changes)

    assert (held.case().status, held.step(RESERVE).status) == ("IN_PROGRESS", "HELD")


@pytest.mark.parametrize(
    ("resolution", "state"),
    [(Resolution.SKIP, "SKIPPED"), (Resolution.CANCEL_STEP, "CANCELLED"), (Resolution.FAIL_STEP, "FAILED")],
    ids=str,
)
def test_a_final_resolution_ends_the_step_and_closes_the_case(held: Fulfilment, resolution: Resolution, state: str) -> None:
    held.claim(BERT)

    held.resolve(BERT, resolution)

    assert (held.step(RESERVE).status, held.case().status) == (state, "CLOSED")


def test_steps_that_depend_on_a_failed_step_are_cancelled_and_the_order_settles(held: Fulfilment) -> None:
    held.claim(BERT)
    held.complete(CHECK)

    held.resolve(BERT, Resolution.FAIL_STEP)

    assert held.status == "PARTIALLY_FULFILLED"
    assert held.step("SHIP_ROUTER").final_reason == "PREDECESSOR_LOST"


def test_only_its_owner_resolves_a_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    with pytest.raises(FalloutCaseConflict):
        held.resolve(BERT, Resolution.RETRY)


def test_an_order_whose_step_is_held_is_held_and_goes_on_after_the_resolution(held: Fulfilment) -> None:
    assert held.status == "IN_PROGRESS"
    held.complete(CHECK)
    assert (held.status, held.order.body["holdReason"]) == ("HELD", "held: RESERVE_INVENTORY")
    held.claim(ANNA)

    held.resolve(ANNA, Resolution.RETRY)

    assert (held.status, held.order.body["holdReason"]) == ("IN_PROGRESS", None)


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


def test_a_contradiction_about_a_final_step_can_be_closed_without_a_change(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    work.claim(BERT)

    resolved = work.resolve(BERT, resolving.Resolution.KEEP_AS_IS)

    assert resolved.status == "CLOSED"


def test_what_a_second_person_has_declined_cannot_be_confirmed(held: Fulfilment) -> None:
    held.claim(ANNA)
    proposal_id = held.propose(ANNA, external_ref="r-7")
    held.answer_proposal(BERT, proposal_id, confirm=False)

    assert held.proposal(held.case()) is None
    with pytest.raises(StaleProposal):
        held.answer_proposal(MONA, proposal_id)


def test_a_proposal_ends_with_the_authority_of_who_made_it(held: Fulfilment) -> None:
    held.claim(ANNA)
    proposal_id = held.propose(ANNA, external_ref="r-7")
    with held.offers.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE authority_grant SET status = 'REVOKED' WHERE subject = 'anna'")

    with pytest.raises(StaleProposal, match="anna may not decide this any more: propose it again"):
        held.answer_proposal(BERT, proposal_id)
