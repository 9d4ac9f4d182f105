"""People work on a case: each command names the version that was seen, and its person owns the case and belongs to the queue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from domain.fallout import casework
from domain.fallout.cases import Queue
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, MONA

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
