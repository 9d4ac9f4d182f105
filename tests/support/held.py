"""An order with a held step, and the case that its process has opened."""

from __future__ import annotations

import pytest

from domain.delivery import troubles
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.fallout.triaging import OpenCase
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a held step, which the provider rejected, and the case that its process opened."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED, reason="no such article")
    open_case(work)
    return work


def open_case(work: Fulfilment, name: str = RESERVE) -> None:
    """Open the case of a held step, as the step's process does."""
    step = work.step(name)
    command = OpenCase(
        type=FalloutType.PROVIDER_REJECTED,
        dedupe_key=troubles.held_step_key(step.id),
        detail="no such article",
        order_id=work.order_id,
        step_id=step.id,
    )
    with work.offers.uow("worker") as uow:
        triaging.open_case(uow, command)
