"""The resolution of a fallout case: it names the versions that were seen, and a second person confirms that a step was completed."""

from __future__ import annotations

from typing import Any

import pytest

from domain.delivery import cases_shown, resolving
from domain.delivery.proposing import OwnProposal, StaleProposal
from domain.delivery.resolving import EvidenceMissing, Resolution, SecondPersonMissing
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import StepEvent, StepVersionConflict
from domain.errors import Refusal
from domain.fallout import casework
from domain.fallout.casework import FalloutCaseConflict, ResolutionNeedsAuthority
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK, RESERVE
from tests.support.offers import ANNA, BERT, MONA, Offers


def test_a_retry_releases_the_step_and_its_success_closes_the_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    resolved = held.resolve(ANNA, Resolution.RETRY)
    assert (resolved.status, held.step(RESERVE).status, held.step(RESERVE).failure_class) == ("RESOLVED", "RETRYABLE", "RELEASED")
    held.complete(RESERVE)

    assert (held.case().status, held.step(RESERVE).status) == ("CLOSED", "COMPLETED")


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


def test_a_contradiction_about_a_final_step_can_be_closed_without_a_change(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    work.claim(BERT)

    resolved = work.resolve(BERT, resolving.Resolution.KEEP_AS_IS)

    assert resolved.status == "CLOSED"


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
