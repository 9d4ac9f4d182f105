"""People work on a case: each command names the version that was seen, and its person owns the case and belongs to the queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import select

from domain.delivery.resolving import PROPOSAL, Resolution
from domain.fallout import casework
from domain.fallout.cases import Queue
from tests.mutants.conditions import ON
from tests.mutants.telling import allowed_by, refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, MONA

RESERVE = "RESERVE_INVENTORY"
SECOND = "fallout_case.resolve/SECOND_PERSON_MISSING"
FIRST = (Queue.FIRST_LEVEL,)
Act = Callable[[Any, casework.CaseCommand], object]


def ask(uow: Any, command: casework.CaseCommand) -> object:
    return casework.request_information(uow, command, "Which one?")


def answer(uow: Any, command: casework.CaseCommand) -> object:
    return casework.receive_information(uow, command, "This one.")


def put_on_hold(uow: Any, command: casework.CaseCommand) -> object:
    return casework.hold(uow, command, "until Monday")


def do(work: Fulfilment, act: Act, person: str = BERT, **changes: Any) -> None:
    with work.offers.uow(person) as uow:
        act(uow, work.as_seen(person, **changes))


def older(work: Fulfilment) -> dict[str, Any]:
    return {"expected_version": work.case().version - 1}


# Move -> the acts that must come before it, and the act that makes the move.
STATES: dict[str, tuple[tuple[Act, ...], Act]] = {
    "claim": ((), casework.claim),
    "release": ((casework.claim,), casework.release),
    "request_information": ((casework.claim,), ask),
    "receive_information": ((casework.claim, ask), answer),
    "hold": ((casework.claim,), put_on_hold),
    "resume": ((casework.claim, put_on_hold), casework.resume),
    "escalate": ((), casework.escalate),
    "hand_on": ((casework.claim,), casework.hand_on),
}


def prepared(trial: Trial, name: str) -> tuple[Fulfilment, Act]:
    work = Fulfilment.contradicted(trial)
    trial.make_late()
    before, act = STATES[name]
    for each in before:
        do(work, each)
    return work, act


def acting_on_an_older_version(name: str, trial: Trial) -> None:
    work, act = prepared(trial, name)
    do(work, act, **older(work))


def acting_on_somebody_elses_case(name: str, trial: Trial) -> None:
    work, act = prepared(trial, name)
    do(work, act, MONA)


for name in STATES.keys() - {"claim"}:
    refused_by(f"fallout_case.{name}/FALLOUT_CASE_CONFLICT")(partial(acting_on_an_older_version, name))
for name in ("release", "request_information", "hold", "resume", "hand_on"):
    refused_by(f"fallout_case.{name}/FALLOUT_CASE_CONFLICT#2")(partial(acting_on_somebody_elses_case, name))


@refused_by("fallout_case.claim/QUEUE_NOT_YOURS")
def claiming_from_a_higher_queue(trial: Trial) -> None:
    do(Fulfilment.contradicted(trial), casework.claim, roles=FIRST)


@refused_by("fallout_case.claim/FALLOUT_CASE_CONFLICT")
def claiming_a_case_on_an_older_version(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim, **older(work))


@refused_by("fallout_case.claim/FALLOUT_CASE_CONFLICT#2")
def claiming_a_case_that_has_an_owner(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    with trial.uow(MONA) as uow:
        uow.apply(casework.CLAIM, work.as_seen(MONA))


@refused_by("fallout_case.expire_claim/FALLOUT_CASE_CONFLICT")
def ending_a_lease_on_an_older_version_of_the_case(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    trial.by_hand("UPDATE fallout_case SET claim_expires_at = clock_timestamp() WHERE tenant_id = :tenant")
    with trial.uow() as uow:
        casework.expire_claim(uow, work.case().id, work.case().version - 1)


@refused_by("fallout_case.expire_claim/FALLOUT_CASE_CONFLICT#2")
def ending_a_lease_before_its_time(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    with trial.uow() as uow:
        casework.expire_claim(uow, work.case().id, work.case().version)


def process_of_another_case(trial: Trial) -> str:
    return trial.process_of_case(Fulfilment.contradicted(trial).case().id)


def acting_by_the_process_of_another_case(name: str, trial: Trial) -> None:
    work, act = prepared(trial, name)
    do(work, act, process_instance_id=process_of_another_case(trial))


for name in ("claim", "escalate", "hand_on"):
    refused_by(f"fallout_case.{name}/NOT_THIS_PROCESS")(partial(acting_by_the_process_of_another_case, name))


@refused_by("fallout_case.escalate/NOT_DUE")
def escalating_a_case_before_its_time_is_over(trial: Trial) -> None:
    do(Fulfilment.contradicted(trial), casework.escalate)


@refused_by("fallout_case.hand_on/QUEUE_NOT_YOURS")
def handing_on_from_a_lower_level(trial: Trial) -> None:
    do(Fulfilment.contradicted(trial), casework.hand_on, roles=FIRST)


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
