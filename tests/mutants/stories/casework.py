"""People work on a case: each command names the version that was seen, and its person owns the case and belongs to the queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from domain.delivery.resolving import Resolution
from domain.fallout import casework
from domain.fallout.cases import Queue
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import BERT, MONA, Fulfilment

RESERVE = "RESERVE_INVENTORY"
FIRST = (Queue.FIRST_LEVEL,)
Act = Callable[[Any, casework.CaseCommand], object]


def ask(uow: Any, command: casework.CaseCommand) -> object:
    return casework.request_information(uow, command, "Which one?")


def answer(uow: Any, command: casework.CaseCommand) -> object:
    return casework.receive_information(uow, command, "This one.")


def put_on_hold(uow: Any, command: casework.CaseCommand) -> object:
    return casework.hold(uow, command, "until Monday")


def confirm(uow: Any, command: casework.CaseCommand) -> object:
    return casework.confirm(uow, command, "r-1", "seen")


def do(work: Fulfilment, act: Act, person: str = BERT, **changes: Any) -> None:
    with work.offers.uow(person) as uow:
        act(uow, work.as_seen(person, **changes))


def older(work: Fulfilment) -> dict[str, Any]:
    return {"expected_version": work.case().version - 1}


# Move -> the acts that must come before it, and the act that makes the move.
STATES: dict[str, tuple[tuple[Act, ...], Act]] = {
    "release": ((casework.claim,), casework.release),
    "request_information": ((casework.claim,), ask),
    "receive_information": ((casework.claim, ask), answer),
    "hold": ((casework.claim,), put_on_hold),
    "resume": ((casework.claim, put_on_hold), casework.resume),
    "escalate": ((), casework.escalate),
    "to_be_worked_on": ((), confirm),
}


def prepared(trial: Trial, name: str) -> tuple[Fulfilment, Act]:
    work = Fulfilment.contradicted(trial)
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


for name in STATES:
    refused_by(f"fallout_case.{name}/FALLOUT_CASE_CONFLICT")(partial(acting_on_an_older_version, name))
for name in ("release", "request_information", "hold", "resume"):
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


@refused_by("fallout_case.to_be_worked_on/QUEUE_NOT_YOURS")
def confirming_from_a_lower_level(trial: Trial) -> None:
    do(Fulfilment.contradicted(trial), confirm, roles=FIRST)


@refused_by("fallout_case.to_be_worked_on/FALLOUT_CASE_CONFLICT#2")
def confirming_a_case_that_is_resolved(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    work.resolve(BERT, Resolution.FAIL_STEP)
    do(work, confirm)


@refused_by("fallout_case.resolve/QUEUE_NOT_YOURS")
def resolving_in_a_higher_queue(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    work.resolve(BERT, Resolution.FAIL_STEP, roles=FIRST)


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


@refused_by("fallout_case.resolve/SECOND_PERSON_MISSING")
def marking_a_step_completed_without_a_second_person(trial: Trial) -> None:
    work = Fulfilment.contradicted(trial)
    do(work, casework.claim)
    do(work, confirm)
    work.resolve(BERT, Resolution.MARK_COMPLETED, external_ref="r-1")
