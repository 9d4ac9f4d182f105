"""Two workers begin the same step at once (M8, as it is decided in the database): one attempt is live, the other worker is told."""

from __future__ import annotations

from concurrent.futures import Future

from sqlalchemy import Engine

from domain.delivery import starting
from domain.delivery.attempts import ProviderAttempt
from domain.delivery.starting import START, StartedStep, StartStep
from domain.delivery.steps import FulfillmentStep, StepAlreadyStarted, StepStatus, StepVersionConflict
from domain.store import table_of
from tests.support.database import count
from tests.support.guards import allowed_in, without, without_unique
from tests.support.offers import Offers
from tests.support.races import race_for_row

STEP = "CHECK_SERVICEABILITY"
VERSION = 1  # position of the version guard of `fulfillment_step.start`
ONE_LIVE = "uq_provider_attempt_live"


def rivals_begin(db: Engine, offers: Offers) -> list[Future[StartedStep]]:
    """Both have read the step as PENDING."""
    step_id = offers.running_order().steps[STEP]

    def begin(worker_id: str) -> StartedStep:
        command = StartStep(step_id=step_id, expected_version=1, worker_id=worker_id, external_task_id=None)
        with offers.uow(worker_id) as uow:
            return starting.start_step(uow, command)

    return race_for_row(db, table_of(FulfillmentStep), step_id, lambda: begin("worker-1"), lambda: begin("worker-2"))


def test_of_two_workers_who_begin_a_step_one_makes_an_attempt(db: Engine, offers: Offers) -> None:
    """Kills: dropping the version guard, the look at the state and the index together. The tests below take them one by one."""
    first, second = rivals_begin(db, offers)

    assert first.exception() is None
    assert isinstance(second.exception(), StepVersionConflict)
    assert count(db, ProviderAttempt) == 1


def test_without_the_version_guard_the_state_tells_the_second_worker(db: Engine, offers: Offers) -> None:
    with without(START, VERSION):
        _, second = rivals_begin(db, offers)

    assert isinstance(second.exception(), StepAlreadyStarted)
    assert count(db, ProviderAttempt) == 1


def test_without_the_look_at_the_state_as_well_the_index_tells_the_second_worker(db: Engine, offers: Offers) -> None:
    with without(START, VERSION), allowed_in(START, StepStatus.IN_PROGRESS):
        _, second = rivals_begin(db, offers)

    assert isinstance(second.exception(), StepAlreadyStarted)
    assert count(db, ProviderAttempt) == 1


def test_without_any_of_the_three_both_workers_send(db: Engine, offers: Offers) -> None:
    with without_unique(db, ONE_LIVE), without(START, VERSION), allowed_in(START, StepStatus.IN_PROGRESS):
        rivals = rivals_begin(db, offers)
        attempts = count(db, ProviderAttempt)

    assert [rival.exception() for rival in rivals] == [None, None]
    assert attempts == 2
    assert len({rival.result().idempotency_key for rival in rivals}) == 1
