"""Cancellations and contradictions without a reply: the sweep asks the provider by key, and its ledger decides what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from unittest.mock import create_autospec

import pytest
from sqlalchemy import text

from domain.delivery import attempts, fulfilling, unsettled
from domain.delivery.attempts import AttemptCommand
from domain.delivery.fulfilling import OutcomeSource, RecordFact
from domain.delivery.resolving import RULES, SENT_AGAIN, Resolution, resolutions_for
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent
from reconciliation.loop import Intervals, Reconciler
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, Offers
from tests.support.reconciling import OnlyAsked, all_are_due
from workers.providers.port import Provider, ProviderReply, ProviderUnavailableError, ReplyStatus
from workers.runtime.engine import Engine

RESERVE = "RESERVE_INVENTORY"
AT_ONCE = Intervals(
    start_safe_interval=timedelta(0),
    attempt_stale_after=timedelta(0),
    request_safe_interval=timedelta(0),
    evaluation_grace=timedelta(0),
    case_grace=timedelta(0),
)
GIVEN_UP = replace(AT_ONCE, give_up_after=timedelta(0))
DONE = ProviderReply(status=ReplyStatus.COMPLETED, request_id="r-1", external_ref="e-1")
REFUSED = ProviderReply(status=ReplyStatus.REJECTED, reason="too late")
ACCEPTED = ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1")
CANCELLED = ProviderReply(status=ReplyStatus.CANCELLED, request_id="r-1")


@dataclass
class Ledger(OnlyAsked):
    """A provider that only answers queries, by the command in the key."""

    says: Mapping[str, ProviderReply | None]
    asked: list[str] = field(default_factory=list)

    def query(self, idempotency_key: str) -> ProviderReply | None:
        self.asked.append(idempotency_key)
        if not self.says:
            raise ProviderUnavailableError("connection refused")
        return self.says[idempotency_key.rpartition(":")[2]]


def reconciler_of(work: Fulfilment, provider: Provider, intervals: Intervals = AT_ONCE) -> Reconciler:
    """A reconciler whose engine has neither instances nor tasks."""
    engine = create_autospec(Engine, instance=True)
    engine.find_instances.return_value = []
    engine.assigned_tasks.return_value = []
    return Reconciler(acting(work.offers.engine, "reconcile"), engine, {"sandbox": provider}, intervals)


def reconcile(work: Fulfilment, intervals: Intervals = AT_ONCE, **says: ProviderReply | None) -> Ledger:
    """Sweep once."""
    ledger = Ledger(says)
    all_are_due(work.offers.engine)
    reconciler_of(work, ledger, intervals).run_once()
    return ledger


def without_lookup(work: Fulfilment) -> None:
    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET has_lookup = false"))


@pytest.fixture
def cancelling(offers: Offers) -> Fulfilment:
    return Fulfilment.being_cancelled(offers)


def test_a_cancellation_that_the_provider_confirms_when_asked_settles_the_order(cancelling: Fulfilment) -> None:
    ledger = reconcile(cancelling, CANCEL=DONE, EXECUTE=CANCELLED)

    assert attempts.idempotency_key(cancelling.step(RESERVE).id, AttemptCommand.CANCEL) in ledger.asked
    assert (cancelling.step(RESERVE).status, cancelling.status) == ("CANCELLED", "CANCELLED")


def test_a_step_whose_cancellation_was_refused_goes_on(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=REFUSED, EXECUTE=ACCEPTED)

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("IN_PROGRESS", "CANCELLING")


def test_a_cancellation_that_never_arrived_may_be_sent_again(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=None, EXECUTE=ACCEPTED)

    assert cancelling.start_cancelling(RESERVE).step.status == "CANCEL_REQUESTED"


def test_a_step_whose_own_request_never_arrived_needs_no_cancellation(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=None, EXECUTE=None)

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("CANCELLED", "CANCELLED")


def test_a_completed_step_is_not_undone_before_the_reply_about_its_cancellation(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    assert f"undo {RESERVE}" not in cancelling.states()

    reconcile(cancelling, CANCEL=REFUSED, EXECUTE=DONE)

    assert cancelling.states()[f"undo {RESERVE}"] == "PENDING"


def test_the_ledger_of_the_provider_settles_a_contradiction(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    cancelling.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    reconcile(cancelling, EXECUTE=CANCELLED)

    [contradiction] = cancelling.contradictions()
    assert (contradiction.answer, cancelling.status) == ("REVERSED", "CANCELLED")


def test_an_effect_that_the_ledger_confirms_is_undone(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.CONFIRM_CANCEL)
    assert cancelling.status == "CANCELLED"
    cancelling.say(RESERVE, StepEvent.COMPLETE)

    reconcile(cancelling, EXECUTE=DONE)

    [contradiction] = cancelling.contradictions()
    assert (contradiction.answer, cancelling.states()[f"undo {RESERVE}"]) == ("IN_EFFECT", "PENDING")


def test_a_contradiction_about_a_request_that_is_under_way_is_asked_about_again(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    cancelling.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    reconcile(cancelling, EXECUTE=ACCEPTED)

    [contradiction] = cancelling.contradictions()
    assert contradiction.answer is None


def test_an_unknown_outcome_at_a_provider_without_lookup_holds_the_step(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    without_lookup(work)

    ledger = reconcile(work)

    assert ledger.asked == []
    assert (work.step(RESERVE).status, work.step(RESERVE).failure_class) == ("HELD", FailureClass.UNCLEAR)


def test_a_cancellation_without_a_reply_at_a_provider_without_lookup_gets_a_case(cancelling: Fulfilment) -> None:
    without_lookup(cancelling)

    reconcile(cancelling)

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("HELD", "CANCELLING")
    assert cancelling.case().type == "OUTCOME_UNKNOWN"


def test_the_decision_of_a_person_on_the_step_settles_its_cancellation(cancelling: Fulfilment) -> None:
    """Kills: a decision that leaves the request to cancel open, so that the order waits for its reply for ever."""
    without_lookup(cancelling)
    reconcile(cancelling)
    cancelling.claim(ANNA)

    cancelling.resolve(ANNA, Resolution.CANCEL_STEP)

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("CANCELLED", "CANCELLED")


def test_a_step_that_is_being_cancelled_cannot_be_retried(cancelling: Fulfilment) -> None:
    """Kills: allowing a retry, which is never sent and lets the step be cancelled although it may have taken effect."""
    without_lookup(cancelling)
    reconcile(cancelling)
    cancelling.claim(ANNA)

    assert not SENT_AGAIN & {
        RULES[each].event for each in resolutions_for(cancelling.case(), cancelling.step(RESERVE), cancelling.row())
    }
    with pytest.raises(ResolutionNotAllowed, match="being cancelled"):
        cancelling.resolve(ANNA, Resolution.RETRY)

    cancelling.resolve(ANNA, Resolution.CANCEL_STEP)
    assert cancelling.status == "CANCELLED"


def test_a_cancellation_that_the_provider_has_acknowledged_is_left_alone(cancelling: Fulfilment) -> None:
    without_lookup(cancelling)
    with cancelling.offers.engine.begin() as connection:
        connection.execute(text("UPDATE provider_attempt SET status = 'ACKNOWLEDGED'"))

    reconcile(cancelling)

    assert cancelling.step(RESERVE).status == "CANCEL_REQUESTED"


def test_a_step_is_held_when_its_provider_is_away_for_too_long(cancelling: Fulfilment) -> None:
    reconcile(cancelling)
    assert cancelling.step(RESERVE).status == "CANCEL_REQUESTED"

    reconcile(cancelling, GIVEN_UP)

    assert cancelling.step(RESERVE).status == "HELD"


def test_a_status_that_says_nothing_about_a_cancellation_is_no_reply_to_it(cancelling: Fulfilment) -> None:
    """Kills: asking for ever about a cancellation of which the provider only says that it is CANCELLED itself."""
    reconcile(cancelling, CANCEL=CANCELLED, EXECUTE=ACCEPTED)
    assert cancelling.step(RESERVE).status == "CANCEL_REQUESTED"

    reconcile(cancelling, GIVEN_UP, CANCEL=CANCELLED, EXECUTE=ACCEPTED)

    assert (cancelling.step(RESERVE).status, cancelling.case().type) == ("HELD", "OUTCOME_UNKNOWN")


def test_a_cancellation_that_is_cancelled_itself_does_not_keep_a_completed_step_from_being_undone(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)

    reconcile(cancelling, GIVEN_UP, CANCEL=CANCELLED, EXECUTE=DONE)

    assert cancelling.states()[f"undo {RESERVE}"] == "PENDING"


def test_a_cancellation_that_is_accepted_is_waited_for_however_long(cancelling: Fulfilment) -> None:
    reconcile(cancelling, GIVEN_UP, CANCEL=ACCEPTED, EXECUTE=ACCEPTED)

    assert cancelling.step(RESERVE).status == "CANCEL_REQUESTED"


def test_a_question_without_an_answer_gives_up_no_cancellation_of_an_old_request(offers: Offers) -> None:
    """Kills: counting the hour of silence from the request, so that its cancellation is given up before anybody has asked for it."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.ACKNOWLEDGE)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE provider_attempt SET sent_at = sent_at - interval '2 hours'"))
    work.cancel()

    reconcile(work)

    assert work.step(RESERVE).status == "CANCEL_REQUESTED"


def test_a_completed_step_is_undone_although_its_cancellation_has_no_reply(cancelling: Fulfilment) -> None:
    without_lookup(cancelling)
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    assert f"undo {RESERVE}" not in cancelling.states()

    reconcile(cancelling)

    assert cancelling.states()[f"undo {RESERVE}"] == "PENDING"


def test_a_contradiction_that_the_provider_does_not_settle_in_time_gets_a_case(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    cancelling.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    reconcile(cancelling, GIVEN_UP)

    [contradiction] = cancelling.contradictions()
    assert contradiction.answer == "LEFT_TO_A_PERSON"
    assert cancelling.case().type == "CONTRADICTORY_CALLBACK"


def test_a_refused_cancellation_of_a_rejected_step_gets_no_case(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.FAIL_FINALLY)
    cancelling.say(RESERVE, StepEvent.REFUSE_CANCEL)

    reconcile(cancelling, EXECUTE=REFUSED)

    assert [contradiction.answer for contradiction in cancelling.contradictions()] == ["REVERSED"]
    assert (cancelling.cases(), cancelling.status) == ([], "CANCELLED")


def test_an_order_whose_last_worker_died_while_it_was_cancelled_is_evaluated(cancelling: Fulfilment) -> None:
    with cancelling.offers.uow("provider:sandbox") as uow:
        fact = RecordFact(step_id=cancelling.step(RESERVE).id, event=StepEvent.CONFIRM_CANCEL, source=OutcomeSource.CALLBACK)
        fulfilling.record_fact(uow, fact)
    assert cancelling.status == "CANCELLING"

    reconcile(cancelling)

    assert cancelling.status == "CANCELLED"


def test_an_order_with_an_open_contradiction_is_not_evaluated(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, StepEvent.COMPLETE)
    cancelling.say(RESERVE, StepEvent.CONFIRM_CANCEL)

    reconcile(cancelling, EXECUTE=ACCEPTED)

    with cancelling.offers.uow() as uow:
        assert not unsettled.needs_evaluation(uow.connection, cancelling.offers.tenant_id, cancelling.order_id)
