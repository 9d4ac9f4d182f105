"""Requirements are opened and signed. An approval holds for one revision at one price."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from domain.offers import approving, deciding
from domain.offers.approvals import EXPIRE_REQUEST, RECALL_REQUEST, VOID_REQUEST, VOID_REQUIREMENT, Decision
from domain.store import Move
from tests.mutants.layers import STATE
from tests.mutants.statements import LOOK_AT_GRANT
from tests.mutants.stories.commands import decide
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.as_read import Offer
from tests.support.offers import OWNER, SIGNATURE

DECISION_OF_ITS_QUOTE = "fk_approval_decision_tenant_id_quote_id_quote_revision_id"
ONE_DECISION_EACH = "uq_approval_decision_tenant_id_requirement_id"


@refused_by("quote.approval_facts/STALE_REVISION")
def facts_of_another_revision(trial: Trial) -> None:
    offer, other = trial.submitted_quote(), trial.submitted_quote()
    with trial.uow() as uow:
        approving.collect_facts(uow, offer.quote_id, other.revision_id, offer.price_result_id)


@refused_by("quote.approval_facts/STALE_PRICE")
def facts_of_another_price(trial: Trial) -> None:
    offer, other = trial.submitted_quote(), trial.submitted_quote()
    with trial.uow() as uow:
        approving.collect_facts(uow, offer.quote_id, offer.revision_id, other.price_result_id)


def apply(trial: Trial, move: Move, **values: Any) -> None:
    with trial.uow() as uow:
        uow.apply(move, **values)


def of_quote(offer: Offer) -> dict[str, Any]:
    return {"quote_id": offer.quote_id, "quote_revision_id": offer.revision_id, "price_result_id": offer.price_result_id}


@refused_by("quote.open_requirements/STALE_APPROVAL")
def requirements_for_another_revision(trial: Trial) -> None:
    offer, other = trial.submitted_quote(), trial.submitted_quote()
    apply(trial, approving.OPEN_REQUIREMENTS, **{**of_quote(offer), "quote_revision_id": other.revision_id})


@refused_by("quote.none_required/STALE_APPROVAL")
def automatic_approval_of_another_revision(trial: Trial) -> None:
    offer, other = trial.submitted_quote(), trial.submitted_quote()
    apply(trial, approving.NONE_REQUIRED, **{**of_quote(offer), "quote_revision_id": other.revision_id})


def repriced(trial: Trial) -> tuple[Offer, Offer]:
    """An offer with its first price, and the same offer, submitted with its second price."""
    priced = trial.priced_quote()
    return priced, trial.submit(trial.price(priced))


@refused_by("quote.open_requirements/STALE_APPROVAL#2")
def requirements_for_an_earlier_price_of_the_revision(trial: Trial) -> None:
    earlier, offer = repriced(trial)
    trial.open_requirements(replace(offer, price_result_id=earlier.price_result_id), SIGNATURE)


@refused_by("quote.none_required/STALE_APPROVAL#2")
def automatic_approval_of_an_earlier_price_of_the_revision(trial: Trial) -> None:
    earlier, offer = repriced(trial)
    trial.open_requirements(replace(offer, price_result_id=earlier.price_result_id))


@refused_by("the state in quote.open_requirements")
def requirements_for_a_quote_that_was_never_submitted(trial: Trial) -> None:
    apply(trial, approving.OPEN_REQUIREMENTS, **of_quote(trial.priced_quote()))


@refused_by("the state in quote.none_required")
def automatic_approval_of_a_quote_that_waits_for_signatures(trial: Trial) -> None:
    apply(trial, approving.NONE_REQUIRED, **of_quote(trial.quote_in_approval()))


def outcome_for_another_revision(decision: Decision, trial: Trial) -> None:
    offer = trial.quote_in_approval()
    apply(trial, deciding.QUOTE_OUTCOME[decision], quote_id=offer.quote_id, quote_revision_id=uuid4())


def outcome_for_a_quote_that_was_never_submitted(decision: Decision, trial: Trial) -> None:
    apply(trial, deciding.QUOTE_OUTCOME[decision], **of_quote(trial.priced_quote()))


def signature_for_another_offer(decision: Decision, trial: Trial) -> None:
    offer, other = trial.quote_in_approval(), trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    decide(trial, other, requirement_id, decision)


def second_signature_for_one_requirement(decision: Decision, trial: Trial) -> None:
    offer, first, _ = trial.two_levels()
    trial.decide(offer, first)
    decide(trial, offer, first, decision, approval_task_id="another")


def signature_for_a_requirement_that_is_void(decision: Decision, trial: Trial) -> None:
    offer, first, _ = trial.two_levels()
    with trial.uow() as uow:
        uow.apply(VOID_REQUIREMENT, requirement_id=first)
    decide(trial, offer, first, decision)


def signature_on_an_older_version(decision: Decision, trial: Trial) -> None:
    sign(trial, decision, expected_version=0)


def signature_before_the_level_below(decision: Decision, trial: Trial) -> None:
    trial.grant_authority(role="approverDirector")
    offer, _, director = trial.two_levels()
    decide(trial, offer, director, decision, roles=("approverDirector",))


def signature_of_the_owner(decision: Decision, trial: Trial) -> None:
    trial.grant_authority(OWNER)
    sign(trial, decision, decided_by=OWNER)


def signature_without_the_role(decision: Decision, trial: Trial) -> None:
    sign(trial, decision, roles=("salesAgent",))


def signature_without_a_grant(decision: Decision, trial: Trial) -> None:
    sign(trial, decision, decided_by="robin")


def sign(trial: Trial, decision: Decision, **changes: Any) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    decide(trial, offer, requirement_id, decision, **changes)


def signature_of_another_process(decision: Decision, trial: Trial) -> None:
    sign(trial, decision, process_instance_id=process_of_another_signature(trial))


def process_of_another_signature(trial: Trial) -> str:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    return trial.process_of_signature(requirement_id)


for each in Decision:
    word = each.value.lower()
    requirement, look = f"approval_requirement.{word}", f"{STATE}approval_requirement.{word}"
    for layer, tell, masks in (
        (f"quote.{word}/STALE_APPROVAL", outcome_for_another_revision, ()),
        (f"{STATE}quote.{word}", outcome_for_a_quote_that_was_never_submitted, ()),
        (f"{requirement}/NOT_THIS_PROCESS", signature_of_another_process, ()),
        (f"{requirement}/STALE_APPROVAL", signature_for_another_offer, (DECISION_OF_ITS_QUOTE,)),
        (f"{requirement}/APPROVAL_ALREADY_DECIDED", second_signature_for_one_requirement, (look, ONE_DECISION_EACH)),
        (look, signature_for_a_requirement_that_is_void, ()),
        (f"{requirement}/STALE_APPROVAL#2", signature_on_an_older_version, ()),
        (f"{requirement}/EARLIER_LEVEL_OPEN", signature_before_the_level_below, ()),
        (f"{requirement}/FOUR_EYES_VIOLATION", signature_of_the_owner, ("approval_decision_four_eyes",)),
        (f"{requirement}/AUTHORITY_EXCEEDED", signature_without_the_role, ()),
        (f"{requirement}/AUTHORITY_EXCEEDED#2", signature_without_a_grant, (LOOK_AT_GRANT,)),
    ):
        refused_by(layer, masked_by=masks)(partial(tell, each))


@refused_by("the state in approval_requirement.ask_again")
def asking_again_for_a_signature_that_was_given(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    with trial.uow() as uow:
        deciding.ask_again(uow, requirement_id, "rita: no.")


@refused_by("the state in approval_requirement.begin")
def beginning_a_requirement_that_was_signed(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    apply(trial, deciding.BEGIN, requirement_id=requirement_id)


@refused_by("the state in approval_requirement.invalidate")
def voiding_a_requirement_that_was_signed(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    apply(trial, VOID_REQUIREMENT, requirement_id=requirement_id)


def ending_a_request_that_was_rejected(move: Move, trial: Trial) -> None:
    apply(trial, move, request_id=trial.rejected_quote().approval_request_id)


for ending in (*deciding.REQUEST_OUTCOME.values(), VOID_REQUEST, RECALL_REQUEST, EXPIRE_REQUEST):
    refused_by(STATE + ending.name)(partial(ending_a_request_that_was_rejected, ending))
