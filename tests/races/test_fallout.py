"""M11 and T13: people meet at one case. One owner, and whoever comes second is told who was first; one decision on the step."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row, text

from domain.delivery import resolving
from domain.delivery.resolving import Resolution, ResolveCase
from domain.delivery.steps import FulfillmentStep, StepEvent
from domain.fallout import casework, triaging
from domain.fallout.cases import FalloutCase, FalloutType, Queue
from domain.fallout.casework import CLAIM, CaseCommand, FalloutCaseConflict
from domain.fallout.triaging import OpenCase
from domain.store import table_of
from tests.support.fulfilment import BERT, ROLES, Fulfilment
from tests.support.guards import without
from tests.support.offers import Offers
from tests.support.races import race_for_row

RESERVE = "RESERVE_INVENTORY"
VERSION_OF_CLAIM, OWNER_OF_CLAIM = 1, 2


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a held step, whose completion was told before it was begun: there is a case."""
    work = Fulfilment.running(offers)
    work.say(RESERVE, StepEvent.COMPLETE)
    assert work.case().status == "OPEN"
    return work


def claimed_by_ten(db: Engine, work: Fulfilment) -> list[Future[Row[Any]]]:
    case = work.case()

    def claim(person: str) -> Row[Any]:
        command = CaseCommand(case_id=case.id, expected_version=case.version, person=person, roles=(Queue.SECOND_LEVEL,))
        with work.offers.uow(person) as uow:
            return casework.claim(uow, command)

    people = [f"worker {number}" for number in range(10)]
    return race_for_row(db, table_of(FalloutCase), case.id, *(lambda person=person: claim(person) for person in people))


def test_of_ten_who_claim_at_once_one_has_the_case_and_nine_are_told(db: Engine, held: Fulfilment) -> None:
    before = held.case()

    futures = claimed_by_ten(db, held)

    refusals = [error for future in futures if (error := future.exception()) is not None]
    assert (len(refusals), {type(error) for error in refusals}) == (9, {FalloutCaseConflict})
    assert (held.case().version, held.case().owner_user_id) == (before.version + 1, "worker 0")


def test_without_version_and_owner_in_the_claim_everybody_has_the_case(db: Engine, held: Fulfilment) -> None:
    """Kills: dropping both guards; either alone is enough to keep the case with one."""
    for position in (VERSION_OF_CLAIM, OWNER_OF_CLAIM):
        assert CLAIM.guards[position].refusal is FalloutCaseConflict
    before = held.case().version
    with without(CLAIM, VERSION_OF_CLAIM, OWNER_OF_CLAIM):
        futures = claimed_by_ten(db, held)

    assert [future.exception() for future in futures] == [None] * 10
    assert held.case().version == before + 10


def test_a_lease_that_has_run_out_is_taken_once(db: Engine, held: Fulfilment) -> None:
    held.claim(BERT)
    with db.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET claim_expires_at = clock_timestamp()"))

    futures = claimed_by_ten(db, held)

    assert sum(future.exception() is None for future in futures) == 1


def decided_twice(db: Engine, work: Fulfilment) -> list[Future[Row[Any]]]:
    """Two windows of the same owner, each with another decision on what both show."""
    held = work.claim(BERT)
    step = work.step(RESERVE)

    def decide(resolution: Resolution) -> Row[Any]:
        command = ResolveCase(
            case_id=held.id,
            expected_version=held.version,
            person=BERT,
            roles=(Queue.SECOND_LEVEL,),
            resolution=resolution,
            expected_step_version=step.version,
            evidence="seen",
        )
        with work.offers.uow(BERT) as uow:
            return resolving.resolve(uow, command)

    return race_for_row(
        db,
        table_of(FulfillmentStep),
        step.id,
        lambda: decide(Resolution.SKIP),
        lambda: decide(Resolution.FAIL_STEP),
    )


def test_of_two_decisions_on_one_step_one_is_carried_out(db: Engine, held: Fulfilment) -> None:
    first, second = decided_twice(db, held)

    assert first.exception() is None
    assert isinstance(second.exception(), FalloutCaseConflict)
    assert (held.step(RESERVE).status, held.case().resolution) == ("SKIPPED", "SKIP")


def test_a_late_completion_and_a_decision_at_once_leave_one_of_both(db: Engine, held: Fulfilment) -> None:
    owned = held.claim(BERT)
    step = held.step(RESERVE)

    def decide() -> object:
        return held.resolve(
            BERT, Resolution.SKIP, expected_version=owned.version, expected_step_version=step.version, case_id=owned.id
        )

    first, second = race_for_row(
        db, table_of(FulfillmentStep), step.id, lambda: held.say(RESERVE, StepEvent.COMPLETE, external_ref="r-1"), decide
    )

    assert first.exception() is None
    assert isinstance(second.exception(), FalloutCaseConflict)
    assert (held.step(RESERVE).status, held.case().status) == ("COMPLETED", "CLOSED")


def test_trouble_that_comes_while_its_case_is_closed_opens_a_new_one(db: Engine, offers: Offers) -> None:
    """Kills: looking for the case that was in the way, and taking it for granted that it is still there."""
    trouble = OpenCase(type=FalloutType.UNSOLICITED_CALLBACK, dedupe_key="nobody's event", detail="an event of no step")

    def comes() -> str:
        with offers.uow("provider:sandbox") as uow:
            return str(triaging.open_case(uow, trouble).id)

    first_id = UUID(comes())
    with offers.uow(BERT) as uow:
        command = CaseCommand(case_id=first_id, expected_version=1, person=BERT, roles=ROLES[BERT])
        version = casework.claim(uow, command).version

    def close() -> str:
        closing = ResolveCase(
            case_id=first_id,
            expected_version=version,
            person=BERT,
            roles=ROLES[BERT],
            resolution=Resolution.KEEP_AS_IS,
            evidence="seen",
        )
        with offers.uow(BERT) as uow:
            return str(resolving.resolve(uow, closing).status)

    closed, came = race_for_row(db, table_of(FalloutCase), first_id, close, comes)

    assert (closed.result(), came.exception()) == ("CLOSED", None)
    assert came.result() != str(first_id)
