"""Two workers begin the same step at once, as it is decided in the database: one attempt is live, the other worker is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from domain.delivery import starting
from domain.delivery.attempts import ProviderAttempt
from domain.delivery.starting import START, StartedStep, StartStep
from domain.delivery.steps import FulfillmentStep, StepAlreadyStarted, StepStatus, StepVersionConflict
from domain.store import table_of
from tests.support.database import count
from tests.support.guards import allowed_in, without, without_unique
from tests.support.offers import Offers
from tests.support.races import NewOffers, race_for_row, refusals

STEP = "CHECK_SERVICEABILITY"
VERSION = 1  # position of the version guard of `fulfillment_step.start`
ONE_LIVE = "uq_provider_attempt_live"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What came of two workers who had both read a step as PENDING, and began it at once."""

    refusals: Sequence[type[BaseException] | None]
    attempts: int
    keys: Sequence[str]  # the idempotency keys that the provider would be asked under


def begun_by_two(offers: Offers) -> Begun:
    step_id = offers.running_order().steps[STEP]

    def begin(worker_id: str) -> StartedStep:
        command = StartStep(step_id=step_id, expected_version=1, worker_id=worker_id, external_task_id=None)
        with offers.uow(worker_id) as uow:
            return starting.start_step(uow, command)

    rivals = race_for_row(offers.engine, table_of(FulfillmentStep), step_id, lambda: begin("worker-1"), lambda: begin("worker-2"))

    keys = [rival.result().idempotency_key for rival in rivals if rival.exception() is None]
    return Begun(refusals=refusals(rivals), attempts=count(offers.engine, ProviderAttempt), keys=keys)


@pytest.fixture(scope="module")
def protected(new_offers: NewOffers) -> Begun:
    return begun_by_two(new_offers())


@pytest.fixture(scope="module")
def without_version(new_offers: NewOffers) -> Begun:
    offers = new_offers()

    with without(START, VERSION):
        return begun_by_two(offers)


@pytest.fixture(scope="module")
def index_alone(new_offers: NewOffers) -> Begun:
    offers = new_offers()

    with without(START, VERSION), allowed_in(START, StepStatus.IN_PROGRESS):
        return begun_by_two(offers)


@pytest.fixture(scope="module")
def unprotected(new_offers: NewOffers) -> Begun:
    offers = new_offers()

    with without_unique(offers.engine, ONE_LIVE), without(START, VERSION), allowed_in(START, StepStatus.IN_PROGRESS):
        return begun_by_two(offers)


def test_of_two_workers_who_begin_a_step_the_second_is_told_that_its_version_is_old(protected: Begun) -> None:
    """Kills: dropping the version guard."""
    assert protected.refusals == [None, StepVersionConflict]


def test_two_workers_who_begin_a_step_make_one_attempt(protected: Begun) -> None:
    """Kills: dropping the version guard, the look at the state and the index together. The tests below take them one by one."""
    assert protected.attempts == 1


def test_without_the_version_guard_the_state_tells_the_second_worker(without_version: Begun) -> None:
    assert without_version.refusals == [None, StepAlreadyStarted]


def test_without_the_version_guard_the_two_workers_still_make_one_attempt(without_version: Begun) -> None:
    assert without_version.attempts == 1


def test_without_the_look_at_the_state_as_well_the_index_tells_the_second_worker(index_alone: Begun) -> None:
    assert index_alone.refusals == [None, StepAlreadyStarted]


def test_the_index_alone_keeps_the_two_workers_at_one_attempt(index_alone: Begun) -> None:
    assert index_alone.attempts == 1


def test_without_any_of_the_three_no_worker_is_told(unprotected: Begun) -> None:
    assert unprotected.refusals == [None, None]


def test_without_any_of_the_three_each_worker_makes_an_attempt(unprotected: Begun) -> None:
    assert unprotected.attempts == 2


def test_without_any_of_the_three_both_workers_send_under_one_idempotency_key(unprotected: Begun) -> None:
    assert list(Counter(unprotected.keys).values()) == [2]
