"""A fact or an inference changes only the attempt that it is about."""

from __future__ import annotations

import pytest

from domain.delivery import fulfilling, step_moves, unanswered
from domain.delivery.fulfilling import OutcomeSource, RecordFact
from domain.delivery.steps import StepEvent
from domain.store import CellKind
from domain.store.unit_of_work import housekeeping
from tests.support.offers import Offers
from tests.support.reconciling import (
    conclude,
    look,
    silence,
    time_out,
)

RESERVE = "RESERVE_INVENTORY"


def test_the_failure_of_a_timed_out_attempt_does_not_change_the_attempt_after_it(offers: Offers) -> None:
    first = offers.start_step(offers.running_order().steps[RESERVE])
    step_id = first.step.id
    time_out(offers, first)
    conclude(offers, step_id, StepEvent.FIND_ABSENT)
    offers.start_step(step_id)

    late = RecordFact(
        step_id=step_id, event=StepEvent.FAIL_WITHOUT_EFFECT, source=OutcomeSource.RESPONSE, attempt_id=first.attempt_id
    )
    with offers.uow("worker-1") as uow:
        kind, step = fulfilling.record_fact(uow, late)

    assert (kind, step.status) == (CellKind.KEEP, "IN_PROGRESS")
    assert look(offers, step_id).attempt_status == "SENT"


def test_an_acknowledged_request_that_was_taken_for_absent_is_asked_about_again(offers: Offers) -> None:
    first = offers.start_step(offers.running_order().steps[RESERVE])
    step_id = first.step.id
    time_out(offers, first)
    conclude(offers, step_id, StepEvent.FIND_ABSENT)

    with offers.uow("callback") as uow:
        kind, step = fulfilling.record_fact(
            uow, RecordFact(step_id=step_id, event=StepEvent.ACKNOWLEDGE, source=OutcomeSource.CALLBACK, external_event_id="e-1")
        )

    assert (kind, step.status) == (CellKind.CONTRADICTION, "UNKNOWN")
    with housekeeping(offers.engine) as connection:
        found = unanswered.unanswered_steps(connection, 10, None, silence())
    assert [row.id for row in found] == [step_id]


def test_a_time_out_loses_to_an_acknowledgement(offers: Offers) -> None:
    started = offers.start_step(offers.running_order().steps[RESERVE])
    with offers.uow("callback") as uow:
        fulfilling.record_fact(uow, RecordFact(step_id=started.step.id, event=StepEvent.ACKNOWLEDGE, source=OutcomeSource.RESPONSE))

    with pytest.raises(step_moves.AttemptAlive):
        time_out(offers, started)

    assert look(offers, started.step.id).attempt_status == "ACKNOWLEDGED"
