"""People meet at one case: it gets one owner, its step one decision, and whoever comes second is told who was first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, text

from domain.delivery import resolving
from domain.delivery.resolving import Resolution, ResolveCase
from domain.delivery.steps import FulfillmentStep, StepEvent
from domain.fallout import casework, triaging
from domain.fallout.cases import FalloutCase, FalloutType, Queue
from domain.fallout.casework import CLAIM, CaseCommand, FalloutCaseConflict
from domain.fallout.triaging import OpenCase
from domain.store import table_of
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.guards import without
from tests.support.offers import BERT, Offers
from tests.support.races import NewOffers, race_for_row, refusals

RESERVE = "RESERVE_INVENTORY"
PEOPLE = tuple(f"worker {number}" for number in range(10))
VERSION_AND_OWNER = tuple(position for position, guard in enumerate(CLAIM.guards) if guard.refusal is FalloutCaseConflict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What came of ten people who claimed one case at once. `changes` is how far the version of the case went up."""

    found: str  # the status that all ten have seen
    refusals: Sequence[type[BaseException] | None]
    owner: str
    changes: int


def claimed_by_ten(work: Fulfilment) -> Claims:
    case = work.case()
    for person in PEOPLE:
        work.offers.grant_authority(person, Queue.SECOND_LEVEL)

    def claim(person: str) -> Row[Any]:
        command = CaseCommand(case_id=case.id, expected_version=case.version, person=person, roles=(Queue.SECOND_LEVEL,))
        with work.offers.uow(person) as uow:
            return casework.claim(uow, command)

    claims = [lambda person=person: claim(person) for person in PEOPLE]
    rivals = race_for_row(work.offers.engine, table_of(FalloutCase), case.id, *claims)

    after = work.case()
    return Claims(found=case.status, refusals=refusals(rivals), owner=after.owner_user_id, changes=after.version - case.version)


@pytest.fixture(scope="module")
def ten_claims(new_offers: NewOffers) -> Claims:
    return claimed_by_ten(Fulfilment.contradicted(new_offers()))


def test_a_step_that_was_completed_before_it_began_has_an_open_case(ten_claims: Claims) -> None:
    assert ten_claims.found == "OPEN"


def test_of_ten_who_claim_a_case_at_once_all_but_the_first_are_told(ten_claims: Claims) -> None:
    assert ten_claims.refusals == [None] + [FalloutCaseConflict] * 9


def test_a_case_that_ten_claim_at_once_belongs_to_the_first(ten_claims: Claims) -> None:
    assert ten_claims.owner == PEOPLE[0]


def test_a_case_that_ten_claim_at_once_is_changed_once(ten_claims: Claims) -> None:
    assert ten_claims.changes == 1


@pytest.fixture(scope="module")
def ten_unguarded_claims(new_offers: NewOffers) -> Claims:
    work = Fulfilment.contradicted(new_offers())

    with without(CLAIM, *VERSION_AND_OWNER):
        return claimed_by_ten(work)


def test_two_guards_of_a_claim_tell_of_another_person() -> None:
    """They are the version and the owner, which the next tests take away; either alone is enough to keep the case with one."""
    assert len(VERSION_AND_OWNER) == 2


def test_without_version_and_owner_in_the_claim_nobody_is_told(ten_unguarded_claims: Claims) -> None:
    """Kills: dropping both guards."""
    assert ten_unguarded_claims.refusals == [None] * 10


def test_without_version_and_owner_in_the_claim_everybody_gets_the_case(ten_unguarded_claims: Claims) -> None:
    """Kills: dropping both guards."""
    assert ten_unguarded_claims.changes == 10


@pytest.fixture
def abandoned(offers: Offers) -> Fulfilment:
    """Make an order with a case whose owner's lease has run out."""
    work = Fulfilment.contradicted(offers)
    work.claim(BERT)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET claim_expires_at = clock_timestamp()"))
    return work


def test_a_lease_that_has_run_out_is_taken_once(abandoned: Fulfilment) -> None:
    claims = claimed_by_ten(abandoned)

    assert claims.refusals.count(None) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What came of two who settled one case at once."""

    refusals: Sequence[type[BaseException] | None]
    step: Row[Any]
    case: Row[Any]


def settled_by_two(work: Fulfilment, first: Callable[[], object], second: Callable[[], object]) -> Settled:
    rivals = race_for_row(work.offers.engine, table_of(FulfillmentStep), work.step(RESERVE).id, first, second)

    return Settled(refusals=refusals(rivals), step=work.step(RESERVE), case=work.case())


def decision_of(work: Fulfilment, resolution: Resolution) -> Callable[[], object]:
    """Make the owner's decision on the case and the step as they are now."""
    case, step = work.case(), work.step(RESERVE)
    seen = {"case_id": case.id, "expected_version": case.version, "expected_step_version": step.version}
    command = ResolveCase(person=BERT, roles=(Queue.SECOND_LEVEL,), resolution=resolution, evidence="seen", **seen)

    def decide() -> object:
        with work.offers.uow(BERT) as uow:
            return resolving.resolve(uow, command)

    return decide


@pytest.fixture(scope="module")
def two_decisions(new_offers: NewOffers) -> Settled:
    """Two windows of the same owner, each with another decision on what both show."""
    work = Fulfilment.contradicted(new_offers())
    work.claim(BERT)
    skip, fail = decision_of(work, Resolution.SKIP), decision_of(work, Resolution.FAIL_STEP)

    return settled_by_two(work, skip, fail)


def test_of_two_decisions_on_one_step_the_second_is_refused(two_decisions: Settled) -> None:
    assert two_decisions.refusals == [None, FalloutCaseConflict]


def test_of_two_decisions_on_one_step_the_first_is_carried_out(two_decisions: Settled) -> None:
    assert two_decisions.step.status == "SKIPPED"


def test_of_two_decisions_on_one_step_the_case_keeps_the_first(two_decisions: Settled) -> None:
    assert two_decisions.case.resolution == "SKIP"


@pytest.fixture(scope="module")
def late_completion(new_offers: NewOffers) -> Settled:
    """The provider completes a held step in the moment before its owner skips it."""
    work = Fulfilment.contradicted(new_offers())
    work.claim(BERT)
    skip = decision_of(work, Resolution.SKIP)

    return settled_by_two(work, lambda: work.say(RESERVE, StepEvent.COMPLETE, external_ref="r-1"), skip)


def test_a_decision_that_comes_after_a_late_completion_is_refused(late_completion: Settled) -> None:
    assert late_completion.refusals == [None, FalloutCaseConflict]


def test_a_step_that_was_completed_before_it_could_be_skipped_stays_completed(late_completion: Settled) -> None:
    assert late_completion.step.status == "COMPLETED"


def test_a_late_completion_closes_the_case_that_somebody_decides(late_completion: Settled) -> None:
    assert late_completion.case.status == "CLOSED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What came of a trouble that returned while its case was closed."""

    status: str  # of its first case
    first: UUID
    second: UUID


@pytest.fixture(scope="module")
def trouble_again(new_offers: NewOffers) -> Return:
    offers = new_offers()
    first = open_case(offers)
    close = closing_of(offers, first)

    closed, opened = race_for_row(offers.engine, table_of(FalloutCase), first, close, lambda: open_case(offers))

    return Return(status=str(closed.result()), first=first, second=UUID(str(opened.result())))


def open_case(offers: Offers) -> UUID:
    trouble = OpenCase(type=FalloutType.UNSOLICITED_CALLBACK, dedupe_key="nobody's event", detail="an event of no step")
    with offers.uow("provider:sandbox") as uow:
        return UUID(str(triaging.open_case(uow, trouble).id))


def closing_of(offers: Offers, case_id: UUID) -> Callable[[], object]:
    """Let a person claim a new case; returns what closes it."""
    with offers.uow(BERT) as uow:
        claim = CaseCommand(case_id=case_id, expected_version=1, person=BERT, roles=ROLES[BERT])
        version = casework.claim(uow, claim).version
    mine = {"case_id": case_id, "expected_version": version, "person": BERT, "roles": ROLES[BERT]}
    command = ResolveCase(resolution=Resolution.KEEP_AS_IS, evidence="seen", **mine)

    def close() -> object:
        with offers.uow(BERT) as uow:
            return resolving.resolve(uow, command).status

    return close


def test_a_case_is_closed_although_its_trouble_returns_at_that_moment(trouble_again: Return) -> None:
    assert trouble_again.status == "CLOSED"


def test_trouble_that_comes_while_its_case_is_closed_opens_a_new_one(trouble_again: Return) -> None:
    """Kills: looking for the case that was in the way, and taking it for granted that it is still there."""
    assert trouble_again.second != trouble_again.first
