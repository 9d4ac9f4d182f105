"""A provider that hangs: what is to be given up does not wait for a place, and each kind of question has places of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Row

from domain.delivery import unanswered
from domain.delivery.steps import StepEvent
from domain.delivery.unanswered import Unasked
from domain.store.unit_of_work import housekeeping
from reconciliation import questions
from reconciliation.questions import HANGS_AFTER, PLACES, ProviderPlaces
from tests.faults.test_unanswered_cancellations import CANCELLED, DONE, RESERVE, Ledger, reconciler_of
from tests.integration.test_fair_sweeps import Hanging, claimed, copies, sweeping, unknown_step
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.reconciling import OnlyAsked, all_are_due, silence
from tests.support.waiting import eventually
from workers.providers.port import ProviderReply

Claim: TypeAlias = Callable[..., Sequence[Row[Any]]]
TWO_HOURS_AGO = "clock_timestamp() - interval '2 hours'"
BACKLOG = 20
A_MINUTE = HANGS_AFTER.total_seconds()


class AnswersCancellations(OnlyAsked):
    """A provider that answers questions about cancellations, and hangs at every other question."""

    def __init__(self) -> None:
        self.cancellations = Ledger({"CANCEL": DONE, "EXECUTE": CANCELLED})
        self.others = Hanging()

    def query(self, idempotency_key: str) -> ProviderReply | None:
        with suppress(KeyError):
            return self.cancellations.query(idempotency_key)
        return self.others.query(idempotency_key)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The clock of the places, in seconds; the test sets it."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(questions, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def hanging() -> Hanging:
    return Hanging()


def backlog(offers: Offers, sent_at: str = "t.sent_at") -> None:
    """Make unknown steps of the hanging provider, and one unknown step of another provider."""
    step_id, _ = unknown_step(offers)
    copies(offers, BACKLOG, step_id, "HANGING", provider_name="'hanging'", sent_at=sent_at)


def claimed_of_the_hanging(offers: Offers, claim: Claim, *, old: bool) -> Sequence[Row[Any]]:
    """What a sweep claims while the sandbox hangs; `old`: everything has waited for long enough to be given up."""
    waits = silence(give_up_after=timedelta(0) if old else timedelta(hours=1))
    with housekeeping(acting(offers.engine, "reconcile")) as connection:
        return claim(connection, 100, None, waits, Unasked(hanging=frozenset({"sandbox"})))


def fill(places: ProviderPlaces, hanging: Hanging, number: int) -> None:
    """Occupy places of the hanging provider."""
    before = len(hanging.asked)
    for each in range(number):
        places.ask("hanging", f"key-{each}", set())
    eventually(lambda: len(hanging.asked) == before + number, "the provider is asked")


def test_steps_that_are_to_be_given_up_wait_for_no_place_at_a_provider_that_hangs(
    offers: Offers, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog(offers, sent_at=TWO_HOURS_AGO)
    monkeypatch.setattr(questions, "HANGS_AFTER", timedelta(0))

    given_up = sweeping(offers, hanging=hanging, sandbox=hanging).sweep()
    hanging.answers.set()

    assert given_up == BACKLOG - PLACES


def test_no_step_is_given_up_unasked_while_its_provider_may_still_answer(offers: Offers, hanging: Hanging) -> None:
    backlog(offers, sent_at=TWO_HOURS_AGO)

    given_up = sweeping(offers, hanging=hanging, sandbox=hanging).sweep()
    hanging.answers.set()

    assert given_up == 0


def test_a_step_that_is_not_to_be_given_up_waits_for_a_provider_that_hangs(
    offers: Offers, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    backlog(offers)
    monkeypatch.setattr(questions, "HANGS_AFTER", timedelta(0))

    given_up = sweeping(offers, hanging=hanging, sandbox=hanging).sweep()
    hanging.answers.set()

    assert (given_up, len(claimed(offers, 100))) == (0, BACKLOG - PLACES)


@pytest.mark.parametrize("old", [False, True], ids=["a young one waits", "an old one is given up"])
def test_a_cancellation_at_a_provider_that_hangs_is_claimed_only_to_give_it_up(offers: Offers, *, old: bool) -> None:
    Fulfilment.being_cancelled(offers)

    assert len(claimed_of_the_hanging(offers, unanswered.unanswered_cancellations, old=old)) == (2 if old else 0)


@pytest.mark.parametrize("old", [False, True], ids=["a young one waits", "an old one is given up"])
def test_a_contradiction_at_a_provider_that_hangs_is_claimed_only_to_give_it_up(offers: Offers, *, old: bool) -> None:
    work = Fulfilment.being_cancelled(offers)
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)
    work.say(RESERVE, StepEvent.COMPLETE)

    assert len(claimed_of_the_hanging(offers, unanswered.unsettled_contradictions, old=old)) == (1 if old else 0)


@pytest.mark.parametrize(
    ("after", "hangs"), [(A_MINUTE - 1, set()), (A_MINUTE, {"hanging"})], ids=["for less than a minute", "for a minute"]
)
def test_a_provider_hangs_when_all_its_places_have_waited_for_a_minute(
    hanging: Hanging, clock: SimpleNamespace, after: float, hangs: set[str]
) -> None:
    places = ProviderPlaces({"hanging": hanging})
    fill(places, hanging, PLACES)

    clock.now = after

    assert places.hanging() == hangs
    hanging.answers.set()


def test_a_provider_with_a_free_place_does_not_hang(hanging: Hanging, clock: SimpleNamespace) -> None:
    places = ProviderPlaces({"hanging": hanging})
    fill(places, hanging, PLACES - 1)

    clock.now = A_MINUTE * 10

    assert places.hanging() == set()
    hanging.answers.set()


def test_the_minute_begins_anew_with_each_answer(hanging: Hanging, clock: SimpleNamespace) -> None:
    places = ProviderPlaces({"hanging": hanging})
    hanging.answers.set()
    places.ask("hanging", "answered", set()).result()
    hanging.answers.clear()
    clock.now = A_MINUTE - 1
    fill(places, hanging, PLACES)

    clock.now = A_MINUTE

    assert places.hanging() == set()
    hanging.answers.set()


def test_questions_about_steps_leave_those_about_cancellations_their_places(offers: Offers) -> None:
    """Kills: places that all sweeps share. The first sweep would take them again whenever its questions time out."""
    provider = AnswersCancellations()
    step_id, _ = unknown_step(offers)
    copies(offers, BACKLOG, step_id, "HANGING")
    cancelling = Fulfilment.being_cancelled(offers)
    all_are_due(offers.engine)

    reconciler_of(cancelling, provider).run_once()
    provider.others.answers.set()

    assert cancelling.step(RESERVE).status == "CANCELLED"
