"""Cancellations and contradictions that nobody answered: the provider is asked by key, and its ledger decides what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from unittest.mock import create_autospec

import pytest
from sqlalchemy import text

from domain import steps
from domain.steps import FailureClass, StepEvent
from reconciliation.loop import Intervals, Reconciler
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from workers.providers.port import CancelRequest, ProviderReply, ProviderRequest, ReplyStatus
from workers.runtime.engine import Engine

E = StepEvent
RESERVE = "RESERVE_INVENTORY"
AT_ONCE = Intervals(start_safe=timedelta(0), attempt_stale=timedelta(0), absence=timedelta(0), evaluation_grace=timedelta(0))
DONE = ProviderReply(status=ReplyStatus.COMPLETED, request_id="r-1", external_ref="e-1")
REFUSED = ProviderReply(status=ReplyStatus.REJECTED, reason="too late")
CANCELLED = ProviderReply(status=ReplyStatus.CANCELLED, request_id="r-1")


@dataclass
class Ledger:
    """A provider that only answers questions, by the command in the key."""

    says: Mapping[str, ProviderReply | None]
    asked: list[str] = field(default_factory=list)

    def execute(self, request: ProviderRequest) -> ProviderReply:
        raise AssertionError(f"reconciliation sent {request}")

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        raise AssertionError(f"reconciliation sent {request}")

    def query(self, idempotency_key: str) -> ProviderReply | None:
        self.asked.append(idempotency_key)
        return self.says[idempotency_key.rpartition(":")[2]]


def reconcile(work: Fulfilment, **says: ProviderReply | None) -> Ledger:
    """Sweep once; starts are nobody's matter here."""
    ledger = Ledger(says)
    engine = create_autospec(Engine, instance=True)
    engine.find_instances.return_value = []
    Reconciler(work.offers.engine, engine, {"sandbox": ledger}, AT_ONCE).run_once()
    return ledger


@pytest.fixture
def cancelling(offers: Offers) -> Fulfilment:
    """An order whose one step under way was asked to be cancelled; no answer came."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()
    work.start_cancelling(RESERVE)
    return work


def test_a_cancellation_that_the_provider_confirms_when_asked_settles_the_order(cancelling: Fulfilment) -> None:
    ledger = reconcile(cancelling, CANCEL=DONE, EXECUTE=CANCELLED)

    assert steps.idempotency_key(cancelling.step(RESERVE).id, "CANCEL") in ledger.asked
    assert (cancelling.step(RESERVE).status, cancelling.status) == ("CANCELLED", "CANCELLED")


def test_a_cancellation_that_was_refused_lets_the_step_go_on(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=REFUSED, EXECUTE=ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1"))

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("IN_PROGRESS", "CANCELLING")


def test_a_cancellation_that_never_arrived_may_be_sent_again(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=None, EXECUTE=ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1"))

    assert cancelling.start_cancelling(RESERVE).step.status == "CANCEL_REQUESTED"


def test_a_request_that_never_arrived_either_needs_no_cancellation(cancelling: Fulfilment) -> None:
    reconcile(cancelling, CANCEL=None, EXECUTE=None)

    assert (cancelling.step(RESERVE).status, cancelling.status) == ("CANCELLED", "CANCELLED")


def test_the_order_of_a_step_that_completed_waits_for_the_answer_about_its_cancellation(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, E.COMPLETE)
    assert f"undo {RESERVE}" not in cancelling.states()

    reconcile(cancelling, CANCEL=REFUSED, EXECUTE=DONE)

    assert cancelling.states()[f"undo {RESERVE}"] == "PENDING"


def test_the_providers_ledger_settles_what_was_completed_and_cancelled(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, E.COMPLETE)
    cancelling.say(RESERVE, E.CONFIRM_CANCEL)

    reconcile(cancelling, EXECUTE=CANCELLED)

    [question] = cancelling.contradictions()
    assert (question.answer, cancelling.status) == ("REVERSED", "CANCELLED")


def test_an_effect_that_is_there_after_all_is_undone(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, E.CONFIRM_CANCEL)
    assert cancelling.status == "CANCELLED"
    cancelling.say(RESERVE, E.COMPLETE)

    reconcile(cancelling, EXECUTE=DONE)

    [question] = cancelling.contradictions()
    assert (question.answer, cancelling.states()[f"undo {RESERVE}"]) == ("IN_EFFECT", "PENDING")


def test_what_is_still_on_its_way_is_asked_about_again(cancelling: Fulfilment) -> None:
    cancelling.say(RESERVE, E.COMPLETE)
    cancelling.say(RESERVE, E.CONFIRM_CANCEL)

    reconcile(cancelling, EXECUTE=ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1"))

    [question] = cancelling.contradictions()
    assert question.answer is None


def test_a_provider_that_cannot_be_asked_leaves_an_unknown_outcome_to_a_person(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET has_lookup = false"))

    ledger = reconcile(work)

    assert ledger.asked == []
    assert (work.step(RESERVE).status, work.step(RESERVE).failure_class) == ("HELD", FailureClass.UNCLEAR)
