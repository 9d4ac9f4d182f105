"""A case is resolved by its owner, on the version that was seen; what a second person must confirm is proposed first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from domain.delivery.resolving import PROPOSAL, Resolution
from domain.fallout import casework
from tests.mutants.conditions import ON
from tests.mutants.stories.casework import FIRST, do, older, process_of_another_case
from tests.mutants.telling import allowed_by, refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, MONA

SECOND = "fallout_case.resolve/SECOND_PERSON_MISSING"


@refused_by("fallout_case.resolve/NOT_THIS_PROCESS")
def resolving_by_the_process_of_another_case(trial: Trial) -> None:
    work = claimed(trial)
    work.resolve(BERT, Resolution.FAIL_STEP, process_instance_id=process_of_another_case(trial))


def claimed(trial: Trial) -> Fulfilment:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    return work


def proposing(trial: Trial, **changes: Any) -> None:
    claimed(trial).propose(BERT, external_ref="r-1", **changes)


@refused_by("fallout_case.propose/NOT_THIS_PROCESS")
def proposing_by_the_process_of_another_case(trial: Trial) -> None:
    proposing(trial, process_instance_id=process_of_another_case(trial))


@refused_by("fallout_case.propose/QUEUE_NOT_YOURS")
def proposing_in_a_higher_queue(trial: Trial) -> None:
    trial.grant_authority(BERT, *FIRST)
    proposing(trial, roles=FIRST)


@refused_by("fallout_case.propose/RESOLUTION_NEEDS_AUTHORITY")
def proposing_what_belongs_to_a_higher_level(trial: Trial) -> None:
    work = in_the_first_queue(trial)
    work.propose(ANNA, Resolution.SKIP, external_ref="r-1")


@refused_by("fallout_case.propose/FALLOUT_CASE_CONFLICT")
def proposing_on_an_older_version(trial: Trial) -> None:
    work = claimed(trial)
    work.propose(BERT, external_ref="r-1", **older(work))


@refused_by("fallout_case.propose/FALLOUT_CASE_CONFLICT#2")
def proposing_for_somebody_elses_case(trial: Trial) -> None:
    claimed(trial).propose(MONA, external_ref="r-1")


def answering(trial: Trial, person: str = MONA, **changes: Any) -> None:
    """Answer a proposal without confirming it: nothing but its own guards stands before."""
    work = claimed(trial)
    work.answer_proposal(person, work.propose(BERT, external_ref="r-1"), confirm=False, **changes)


@refused_by("fallout_case.confirm/NOT_THIS_PROCESS")
def confirming_by_the_process_of_another_case(trial: Trial) -> None:
    answering(trial, process_instance_id=process_of_another_case(trial))


@refused_by("fallout_case.confirm/CONFIRMATION_NOT_YOURS")
def confirming_from_a_lower_level(trial: Trial) -> None:
    answering(trial, roles=FIRST)


@refused_by("fallout_case.confirm/OWN_PROPOSAL")
def confirming_ones_own_proposal(trial: Trial) -> None:
    answering(trial, BERT)


@refused_by("fallout_case.confirm/FALLOUT_CASE_CONFLICT")
def confirming_on_an_older_version(trial: Trial) -> None:
    work = claimed(trial)
    work.answer_proposal(MONA, work.propose(BERT, external_ref="r-1"), confirm=False, **older(work))


@refused_by("fallout_case.confirm/STALE_PROPOSAL")
def confirming_the_proposal_of_another_case(trial: Trial) -> None:
    proposal_id = claimed(trial).propose(BERT, external_ref="r-1")
    claimed(trial).answer_proposal(MONA, proposal_id, confirm=False)


@refused_by("fallout_case.confirm/STALE_PROPOSAL#2")
def confirming_a_proposal_about_an_earlier_state(trial: Trial) -> None:
    work = claimed(trial)
    proposal_id = work.propose(BERT, external_ref="r-1")
    do(work, casework.claim)
    work.answer_proposal(MONA, proposal_id, confirm=False)


DECLINED = "fallout_case.confirm/STALE_PROPOSAL#3"


@refused_by(DECLINED)
def confirming_a_proposal_that_was_declined(trial: Trial) -> None:
    work = claimed(trial)
    proposal_id = work.propose(BERT, external_ref="r-1")
    for _ in range(2):
        work.answer_proposal(MONA, proposal_id, confirm=False)


@allowed_by(f"{DECLINED}{ON}fallout_note.proposal_id")
def confirming_a_proposal_after_another_one_was_declined(trial: Trial) -> None:
    work = claimed(trial)
    first, second = (work.propose(BERT, external_ref=reference) for reference in ("r-1", "r-2"))
    work.answer_proposal(MONA, first, confirm=False)
    work.answer_proposal(MONA, second, confirm=False)


@allowed_by(f"{DECLINED}{ON}fallout_note.kind")
def declining_a_proposal_that_somebody_else_has_confirmed(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work)
    with trial.uow() as uow:
        [proposal_id] = uow.connection.scalars(select(PROPOSAL.c.id).filter_by(tenant_id=trial.tenant_id))
    work.answer_proposal(MONA, proposal_id, confirm=False)


@refused_by("fallout_case.resolve/QUEUE_NOT_YOURS")
def resolving_in_a_higher_queue(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    trial.grant_authority(BERT, *FIRST)
    work.resolve(BERT, Resolution.FAIL_STEP, roles=FIRST)


def in_the_first_queue(trial: Trial) -> Fulfilment:
    """A case of the first level, which anna has claimed."""
    work = Fulfilment.contradicted(trial)
    trial.by_hand("UPDATE fallout_case SET queue = 'falloutL1' WHERE tenant_id = :tenant")
    do(work, casework.claim, ANNA)
    return work


@refused_by("fallout_case.resolve/RESOLUTION_NEEDS_AUTHORITY")
def resolving_what_belongs_to_a_higher_level(trial: Trial) -> None:
    in_the_first_queue(trial).resolve(ANNA, Resolution.SKIP)


@refused_by("fallout_case.resolve/FALLOUT_CASE_CONFLICT")
def resolving_a_case_on_an_older_version(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    work.resolve(BERT, Resolution.FAIL_STEP, **older(work))


@refused_by("fallout_case.resolve/FALLOUT_CASE_CONFLICT#2")
def resolving_somebody_elses_case(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    work.resolve(MONA, Resolution.FAIL_STEP)


NOTE_OF_PROPOSAL = (
    "INSERT INTO fallout_note (tenant_id, id, case_id, kind, author, text, external_ref, proposal_id) "
    "SELECT tenant_id, gen_random_uuid(), case_id, :kind, :author, 'seen', CASE :kind WHEN 'CONFIRMATION' THEN external_ref END, id "
    "FROM resolution_proposal WHERE tenant_id = :tenant AND id = :proposal"
)


def noted(trial: Trial, work: Fulfilment, *, kind: str = "CONFIRMATION", author: str = MONA, **proposed: Any) -> None:
    """Propose a resolution, and write a note of somebody about it, past the command that would carry it out."""
    proposal_id = work.propose(BERT, **{"external_ref": "r-1", **proposed})
    trial.by_hand(NOTE_OF_PROPOSAL, proposal=proposal_id, kind=kind, author=author)


def mark(work: Fulfilment, **changes: Any) -> None:
    work.resolve(BERT, Resolution.MARK_COMPLETED, **{"external_ref": "r-1", **changes})


@refused_by("fallout_case.resolve/SECOND_PERSON_MISSING")
def marking_a_step_completed_without_a_second_person(trial: Trial) -> None:
    mark(claimed(trial))


@refused_by(f"{SECOND}{ON}fallout_note.kind")
def marking_a_step_completed_that_a_second_person_did_not_confirm(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work, kind="DECLINED")
    mark(work)


@refused_by(f"{SECOND}{ON}fallout_note.author")
def marking_a_step_completed_that_only_its_proposer_has_confirmed(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work, author=BERT)
    mark(work)


@refused_by(f"{SECOND}{ON}resolution_proposal.case_version")
def marking_a_step_completed_by_a_proposal_about_an_earlier_state(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work)
    do(work, casework.claim)
    mark(work)


@refused_by(f"{SECOND}{ON}resolution_proposal.resolution")
def marking_a_step_completed_that_was_to_be_cancelled(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work, resolution=Resolution.CANCEL_STEP)
    mark(work)


@refused_by(f"{SECOND}{ON}resolution_proposal.external_ref")
def marking_a_step_completed_under_a_reference_that_was_not_confirmed(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work)
    mark(work, external_ref="r-2")


@refused_by(f"{SECOND}{ON}resolution_proposal.evidence")
def marking_a_step_completed_with_evidence_that_was_not_confirmed(trial: Trial) -> None:
    work = claimed(trial)
    noted(trial, work)
    mark(work, evidence="made up")
