"""Steps whose provider stays silent: what is unknown is left to a person after its time, what is accepted waits for its callback."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from domain.delivery.steps import StepEvent
from domain.retry_rules import PROVIDER_UNKNOWN
from tests.faults.test_unanswered_cancellations import ACCEPTED, reconcile
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.reconciling import record, time_out

RESERVE = "RESERVE_INVENTORY"
A_LITTLE = timedelta(minutes=5)


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order that is being delivered."""
    return Fulfilment.running(offers)


def sent_before(work: Fulfilment, time: timedelta) -> None:
    """Make the requests look as if they had been sent `time` ago."""
    with work.offers.engine.begin() as connection:
        connection.execute(
            text("UPDATE provider_attempt SET sent_at = clock_timestamp() - CAST(:time AS interval), heartbeat_at = sent_at"),
            {"time": time},
        )


def test_a_step_that_stays_unknown_for_too_long_is_held_and_has_a_case(work: Fulfilment) -> None:
    """Kills: a step that is asked about for ever while its provider is away."""
    time_out(work.offers, work.start(RESERVE))
    sent_before(work, PROVIDER_UNKNOWN.time - A_LITTLE)
    reconcile(work)
    assert work.step(RESERVE).status == "UNKNOWN"
    sent_before(work, PROVIDER_UNKNOWN.time + A_LITTLE)

    reconcile(work)

    assert (work.step(RESERVE).status, work.case().type) == ("HELD", "OUTCOME_UNKNOWN")


def test_an_accepted_step_is_asked_about_for_as_long_as_its_callback_is_missing(work: Fulfilment) -> None:
    """Kills: a step that the provider is carrying out, and that is taken from it because it takes long."""
    started = work.start(RESERVE)
    record(work.offers, started.step.id, StepEvent.ACKNOWLEDGE)
    sent_before(work, PROVIDER_UNKNOWN.time * 2)

    asked = [reconcile(work, EXECUTE=ACCEPTED).asked, reconcile(work).asked]

    assert asked == [[started.idempotency_key]] * 2
    assert (work.step(RESERVE).status, work.cases()) == ("IN_PROGRESS", [])
