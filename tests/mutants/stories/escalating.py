"""A requirement is escalated when its time is over, handed on by a person, and reminded of once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from domain.offers import escalating
from tests.mutants.stories.approving import apply, process_of_another_signature
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.offers import APPROVER, OWNER

NEXT_LEVEL: dict[str, Any] = {"expected_escalation_level": 0, "approver_group": "approverDirector", "sla": timedelta(hours=4)}


@refused_by("approval_requirement.escalate/ALREADY_ESCALATED")
def escalating_a_requirement_that_was_escalated_before(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    for _ in range(2):
        escalate(trial, requirement_id)


@refused_by("the state in approval_requirement.escalate")
def escalating_a_requirement_that_was_signed(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    escalate(trial, requirement_id)


@refused_by("approval_requirement.escalate/NOT_THIS_PROCESS")
def escalating_a_requirement_by_the_process_of_another(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    escalate(trial, requirement_id, process_instance_id=process_of_another_signature(trial))


def escalate(trial: Trial, requirement_id: Any, **changes: Any) -> None:
    trial.make_late()
    with trial.uow() as uow:
        escalating.escalate(uow, escalating.EscalateRequirement(requirement_id=requirement_id, **NEXT_LEVEL, **changes))


@refused_by("approval_requirement.hand_on/ALREADY_ESCALATED")
def handing_on_a_requirement_that_was_escalated_before(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    trial.grant_authority(role="approverDirector")
    for _ in range(2):
        hand_on(trial, requirement_id, roles=("approverRsm", "approverDirector"))


@refused_by("the state in approval_requirement.hand_on")
def handing_on_a_requirement_that_was_signed(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    hand_on(trial, requirement_id)


@refused_by("approval_requirement.hand_on/NOT_THIS_PROCESS")
def handing_on_a_requirement_by_the_process_of_another(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    hand_on(trial, requirement_id, process_instance_id=process_of_another_signature(trial))


@refused_by("approval_requirement.hand_on/FOUR_EYES_VIOLATION")
def handing_on_by_the_owner_of_the_quote(trial: Trial) -> None:
    trial.grant_authority(OWNER)
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    hand_on(trial, requirement_id, decided_by=OWNER)


@refused_by("approval_requirement.hand_on/NOT_ASKED")
def handing_on_without_the_role(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    hand_on(trial, requirement_id, roles=("salesAgent",))


@refused_by("approval_requirement.hand_on/NOT_ASKED#2")
def handing_on_without_a_grant(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    hand_on(trial, requirement_id, decided_by="robin")


def hand_on(trial: Trial, requirement_id: Any, **changes: Any) -> None:
    given = {"decided_by": APPROVER, "roles": ("approverRsm",), **changes}
    with trial.uow(given["decided_by"]) as uow:
        escalating.hand_on(uow, escalating.HandOn(requirement_id=requirement_id, **NEXT_LEVEL, **given))


@refused_by("approval_requirement.remind/NOT_THIS_PROCESS")
def reminding_by_the_process_of_another_signature(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    stranger = process_of_another_signature(trial)
    trial.make_late()
    with trial.uow() as uow:
        escalating.remind(uow, requirement_id, stranger)


@refused_by("approval_requirement.remind/NOT_DUE")
def reminding_before_half_of_the_time_is_gone(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    with trial.uow() as uow:
        escalating.remind(uow, requirement_id)


@refused_by("approval_requirement.escalate/NOT_DUE")
def escalating_before_the_time_is_over(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    with trial.uow() as uow:
        escalating.escalate(uow, escalating.EscalateRequirement(requirement_id=requirement_id, **NEXT_LEVEL))


@refused_by("approval_requirement.remind/ALREADY_REMINDED")
def reminding_twice(trial: Trial) -> None:
    [requirement_id] = trial.requirement_ids(trial.quote_in_approval())
    trial.make_late()
    for _ in range(2):
        apply(trial, escalating.REMIND, requirement_id=requirement_id, process_instance_id=None)


@refused_by("the state in approval_requirement.remind")
def reminding_of_a_requirement_that_was_signed(trial: Trial) -> None:
    offer = trial.quote_in_approval()
    [requirement_id] = trial.requirement_ids(offer)
    trial.decide(offer, requirement_id)
    trial.make_late()
    apply(trial, escalating.REMIND, requirement_id=requirement_id, process_instance_id=None)
