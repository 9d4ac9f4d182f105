"""Cancelling an order: steps stop, providers get requests to cancel, completed steps are undone, and the cancellation ends."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from domain.catalog import FIBRE, ROUTER
from domain.delivery import orders
from domain.delivery.fulfilling import OutcomeSource
from domain.delivery.resolving import Resolution
from domain.delivery.starting import StepNotCancellable
from domain.delivery.steps import StepAlreadyStarted, StepEvent, StepKind, StepObsolete
from tests.support.fulfilment import Fulfilment
from tests.support.held import open_case
from tests.support.offers import BERT, Offers, line

RESERVE, CHECK, PROVISION, SHIP, BILL = (
    "RESERVE_INVENTORY",
    "CHECK_SERVICEABILITY",
    "PROVISION_SERVICE",
    "SHIP_ROUTER",
    "ACTIVATE_BILLING",
)


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def test_an_order_that_was_never_started_is_cancelled_at_once(offers: Offers) -> None:
    work = Fulfilment(offers, offers.accepted_quote().order_id)

    request = work.ask_to_cancel()

    assert (work.status, request.status, request.decision_reason) == ("CANCELLED", "DONE", "NOTHING_WAS_BEGUN")


def test_while_a_cancellation_is_assessed_no_step_starts_and_those_under_way_go_on(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.ask_to_cancel()

    with pytest.raises(orders.OrderNotRunning):
        work.start(CHECK)
    work.say(RESERVE, StepEvent.COMPLETE)

    assert (work.status, work.step(RESERVE).status, work.step(CHECK).status) == ("CANCEL_REQUESTED", "COMPLETED", "PENDING")


def test_a_declined_cancellation_lets_the_order_go_on(work: Fulfilment) -> None:
    work.ask_to_cancel()

    declined = work.decide(accept=False, reason="TOO_DEAR")
    work.start(CHECK)

    assert (work.status, declined.status, declined.decision_reason) == ("IN_PROGRESS", "DECLINED", "TOO_DEAR")


def test_a_decision_counts_once(work: Fulfilment) -> None:
    work.ask_to_cancel()
    work.decide(accept=False)

    assert work.decide(accept=True).status == "DECLINED"
    assert work.status == "IN_PROGRESS"


def test_steps_that_were_not_sent_are_cancelled_at_once_and_the_others_at_their_provider(work: Fulfilment) -> None:
    work.start(RESERVE)

    work.cancel()

    assert work.status == "CANCELLING"
    assert work.step(RESERVE).status == "CANCEL_REQUESTED"
    assert work.step(RESERVE).cancel_requested_at is not None
    assert {state for name, state in work.states().items() if name != RESERVE} == {"CANCELLED"}


def test_a_step_whose_cancellation_is_confirmed_is_not_undone(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)

    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    assert (work.status, work.cancellation().status) == ("CANCELLED", "DONE")
    assert "undo RESERVE_INVENTORY" not in work.states()


def test_a_completed_step_is_undone(work: Fulfilment) -> None:
    work.complete(RESERVE, CHECK)
    work.cancel()
    work.evaluate()

    undo = work.step(f"undo {RESERVE}")
    assert (undo.kind, undo.compensates_step_id) == (StepKind.COMPENSATE, work.step(RESERVE).id)
    work.complete(f"undo {CHECK}")
    assert work.status == "CANCELLING"
    work.complete(f"undo {RESERVE}")

    assert (work.status, work.cancellation().status) == ("CANCELLED", "DONE")


def test_an_undo_waits_for_the_undo_of_the_steps_that_depend_on_its_step(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.complete(RESERVE, CHECK)
    without_ponr(offers.engine)
    work.complete(PROVISION, SHIP)

    work.cancel()
    work.evaluate()

    assert work.step(f"undo {SHIP}").ready_at is not None
    assert {work.step(f"undo {name}").ready_at for name in (RESERVE, CHECK, PROVISION)} == {None}
    for name in (SHIP, PROVISION, RESERVE, CHECK):
        work.complete(f"undo {name}")
    assert work.status == "CANCELLED"


def without_ponr(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET is_ponr = false, compensable = true"))


def test_an_order_past_the_point_of_no_return_cannot_be_cancelled(work: Fulfilment) -> None:
    work.complete(RESERVE, CHECK, PROVISION)

    with pytest.raises(orders.PonrReached):
        work.ask_to_cancel()

    assert work.status == "IN_PROGRESS"


def test_a_cancellation_is_declined_when_the_point_of_no_return_is_passed_before_the_decision(work: Fulfilment) -> None:
    work.complete(RESERVE, CHECK)
    work.start(PROVISION)
    work.ask_to_cancel()
    work.say(PROVISION, StepEvent.COMPLETE)

    declined = work.decide(accept=True)

    assert (declined.status, declined.decision_reason, work.status) == ("DECLINED", "PONR_REACHED", "IN_PROGRESS")


def test_an_effect_that_cannot_be_undone_ends_the_cancellation_partly(work: Fulfilment) -> None:
    work.complete(RESERVE, CHECK)
    work.start(PROVISION)
    work.cancel()
    work.start_cancelling(PROVISION)
    work.say(PROVISION, StepEvent.COMPLETE)
    work.say(PROVISION, StepEvent.REFUSE_CANCEL)
    for name in (RESERVE, CHECK):
        work.complete(f"undo {name}")

    assert (work.status, work.cancellation().status) == ("PARTIALLY_FULFILLED", "DONE_PARTIAL")
    assert work.step(PROVISION).final_reason == "COMPLETED_BEFORE_CANCEL"


def test_what_was_built_upon_stays_when_the_undo_above_it_fails_for_good(offers: Offers) -> None:
    """Kills: undo steps that wait for ever for a failed step, so that the cancellation never ends."""
    work = Fulfilment.running(offers)
    without_ponr(offers.engine)
    work.complete(RESERVE, CHECK, PROVISION)
    work.cancel()
    work.evaluate()
    work.start(f"undo {PROVISION}")
    work.say(f"undo {PROVISION}", StepEvent.FAIL_FINALLY)
    open_case(work, f"undo {PROVISION}")
    work.claim(BERT)

    work.resolve(BERT, Resolution.FAIL_STEP)

    assert {work.step(f"undo {name}").final_reason for name in (RESERVE, CHECK)} == {"PREDECESSOR_LOST"}
    assert (work.status, work.cancellation().status) == ("PARTIALLY_FULFILLED", "DONE_PARTIAL")


def test_the_ledger_of_the_provider_settles_a_step_that_was_completed_and_cancelled(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)
    work.say(RESERVE, StepEvent.COMPLETE, external_ref="r-1")
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    [contradiction] = work.contradictions()
    assert (contradiction.said, contradiction.known, contradiction.answer, work.status) == (
        "CONFIRM_CANCEL",
        "COMPLETED",
        None,
        "CANCELLING",
    )
    work.answer(contradiction, in_effect=False)

    assert work.status == "CANCELLED"
    assert f"undo {RESERVE}" not in work.states()


def test_an_effect_after_the_order_was_cancelled_is_undone_by_a_process_of_its_own(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)
    assert work.status == "CANCELLED"

    work.say(RESERVE, StepEvent.COMPLETE, external_ref="r-1")
    [contradiction] = work.contradictions()
    work.answer(contradiction, in_effect=True)
    work.complete(f"undo {RESERVE}")

    assert (work.status, work.step(RESERVE).status) == ("CANCELLED", "CANCELLED")
    assert work.step(RESERVE).external_complete_received_at is not None


def test_an_order_has_one_open_cancellation(work: Fulfilment) -> None:
    work.ask_to_cancel()

    with pytest.raises(orders.CancellationAlreadyOpen):
        work.ask_to_cancel()


@pytest.mark.parametrize("changes", [{"expected_version": 1}, {"expected_status": "HELD"}], ids=["version", "status"])
def test_a_cancellation_must_name_the_current_version_and_status_of_the_order(work: Fulfilment, changes: dict[str, Any]) -> None:
    with pytest.raises(orders.OrderVersionConflict):
        work.ask_to_cancel(**changes)


def test_an_order_that_has_ended_cannot_be_cancelled(offers: Offers) -> None:
    work = Fulfilment(offers, offers.accepted_quote().order_id)
    work.ask_to_cancel()

    with pytest.raises(orders.OrderTerminal):
        work.ask_to_cancel()


def test_a_cancellation_is_too_late_when_every_step_completes_during_the_assessment(offers: Offers) -> None:
    work = Fulfilment.running(offers, lines=[line(1, FIBRE), line(2, ROUTER)])
    without_ponr(offers.engine)
    work.complete(RESERVE, CHECK, PROVISION, SHIP, BILL, "UPDATE_INSTALLED_BASE")
    work.start("NOTIFY_CUSTOMER")
    work.ask_to_cancel()

    work.say("NOTIFY_CUSTOMER", StepEvent.COMPLETE)

    assert (work.status, work.cancellation().status, work.cancellation().decision_reason) == ("FULFILLED", "DECLINED", "TOO_LATE")


def test_one_worker_at_a_time_requests_the_cancellation_of_a_step(work: Fulfilment) -> None:
    work.start(RESERVE)
    with pytest.raises(StepObsolete):
        work.start_cancelling(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)

    with pytest.raises(StepAlreadyStarted):
        work.start_cancelling(RESERVE)


def test_no_cancellation_is_sent_to_a_provider_that_takes_none(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET cancellable = false"))

    with pytest.raises(StepNotCancellable):
        work.start_cancelling(RESERVE)


def test_a_step_whose_cancellation_is_refused_completes_and_is_undone(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)
    work.say(RESERVE, StepEvent.REFUSE_CANCEL, OutcomeSource.RESPONSE)
    assert (work.step(RESERVE).status, work.status) == ("IN_PROGRESS", "CANCELLING")

    work.say(RESERVE, StepEvent.COMPLETE)
    work.complete(f"undo {RESERVE}")

    assert work.status == "CANCELLED"


def test_a_step_that_fails_during_the_cancellation_is_not_sent_again(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)
    work.say(RESERVE, StepEvent.REFUSE_CANCEL)

    work.say(RESERVE, StepEvent.FAIL_WITHOUT_EFFECT)

    assert (work.step(RESERVE).status, work.status) == ("CANCELLED", "CANCELLED")
