"""An order is cancelled while its steps complete. For a fixed moment of the cancellation, no order of the callbacks matters.

What the provider did is told in advance, as its ledger would have it; what it says of it arrives in every order, each word twice. Then what
is in question is put to the ledger, undo steps are carried out, and the order and the net effect must be the same every time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import factorial
from typing import NamedTuple
from unittest.mock import patch

import pytest
from sqlalchemy import Engine

from domain.catalog import StepSpecification
from domain.delivery import callbacks, evaluating, timelines
from domain.delivery.callbacks import ReceiveCallback
from domain.delivery.steps import StepEvent
from tests.mutants.trial import Trial
from tests.support.evidence import record
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.races import NewOffers

FIRST_STEP, SECOND_STEP = "A", "B"
STEPS = (StepSpecification(step_code=FIRST_STEP), StepSpecification(step_code=SECOND_STEP))
ARRIVALS = factorial(4)  # the orders in which four callbacks arrive
WORDS = {
    StepEvent.ACKNOWLEDGE: "step.accepted",
    StepEvent.COMPLETE: "step.completed",
    StepEvent.CONFIRM_CANCEL: "step.cancelled",
    StepEvent.REFUSE_CANCEL: "step.cancel_refused",
}


@dataclass(slots=True)
class Ledger:
    """What the provider has in effect, by step. An undo step takes its step's effect back."""

    effects: dict[str, int] = field(default_factory=dict)

    @property
    def net(self) -> int:
        return sum(self.effects.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a provider did with a step whose cancellation it was asked for, and the two things that it says about that."""

    in_effect: bool
    words: tuple[StepEvent, StepEvent]


TOO_LATE = History(in_effect=True, words=(StepEvent.COMPLETE, StepEvent.REFUSE_CANCEL))
CANCELLED = History(in_effect=False, words=(StepEvent.ACKNOWLEDGE, StepEvent.CONFIRM_CANCEL))
TAKEN_BACK = History(in_effect=False, words=(StepEvent.COMPLETE, StepEvent.CONFIRM_CANCEL))
CONFIRMED_BUT_IN_EFFECT = History(in_effect=True, words=(StepEvent.COMPLETE, StepEvent.CONFIRM_CANCEL))
HISTORIES = {
    "both completed, both too late": (TOO_LATE, TOO_LATE),
    "both cancelled": (CANCELLED, CANCELLED),
    "one each": (TOO_LATE, CANCELLED),
    "completed, then taken back": (TAKEN_BACK, TAKEN_BACK),
    "taken back and too late": (TAKEN_BACK, TOO_LATE),
    "confirmed, but in effect": (CONFIRMED_BUT_IN_EFFECT, CANCELLED),
}


def tell(work: Fulfilment, step: str, event: StepEvent) -> None:
    """Deliver a callback twice, as its door does."""
    row = work.step(step)
    event_id = f"{row.id} {event}"
    command = ReceiveCallback(
        provider_name="sandbox",
        external_event_id=event_id,
        event_type=WORDS[event],
        step_id=row.id,
        external_ref=f"ref of {step}" if event is StepEvent.COMPLETE else None,
        external_request_id=None,
        external_event_at=None,
        payload={"eventId": event_id},
    )
    for _ in range(2):
        with work.offers.uow("provider:sandbox") as uow:
            callbacks.receive(uow, command)
        work.evaluate()


def comes_to_rest(work: Fulfilment, ledger: Ledger) -> None:
    """Put what is in question to the ledger, and carry out what is to be undone, until nothing is left."""
    for _ in range(10):
        for question in work.contradictions():
            if question.answer is None:
                step = next(name for name in (FIRST_STEP, SECOND_STEP) if work.step(name).id == question.step_id)
                work.answer(question, in_effect=ledger.effects[step] > 0)
        undo = [name for name, state in work.states().items() if name.startswith("undo ") and state == "PENDING"]
        for name in undo:
            work.complete(name)
            ledger.effects[name.removeprefix("undo ")] -= 1
        work.evaluate()
        if not undo and all(question.answer is not None for question in work.contradictions()):
            return
    pytest.fail(f"never at rest: {work.states()}")


def cancelled_under_way(offers: Offers) -> Fulfilment:
    """Make an order whose two steps were sent, whose cancellation was accepted and asked of the provider."""
    work = Fulfilment.of_steps(offers, *STEPS)
    for name in (FIRST_STEP, SECOND_STEP):
        work.start(name)
    work.cancel()
    for name in (FIRST_STEP, SECOND_STEP):
        work.start_cancelling(name)
    return work


Told = tuple[str, StepEvent]
"""What the provider says about a step."""


class End(NamedTuple):
    """How the order and its cancellation ended, and how much of its steps is still in effect."""

    order: str
    cancellation: str
    net_effect: int


WITHOUT_EFFECT = End("CANCELLED", "DONE", 0)


def end_of(work: Fulfilment, ledger: Ledger) -> End:
    comes_to_rest(work, ledger)
    return End(work.status, work.cancellation().status, ledger.net)


def orders_that_differ(told: Sequence[Told], *, alike: bool) -> list[Sequence[Told]]:
    """Every order in which these callbacks arrive. Two steps with one history are each other's mirror: then the first step is heard first."""
    return [order for order in permutations(told) if not alike or order[0][0] == FIRST_STEP]


def ends_of_every_order(db: Engine, histories: tuple[History, History]) -> list[End]:
    """Cancel an order, and deliver what the provider says about its steps in each order of arrival.

    All within one transaction: each order of arrival begins with the same rows, and leaves none to the next.
    """
    told = dict(zip((FIRST_STEP, SECOND_STEP), histories, strict=True))
    callbacks_of_both = [(step, event) for step, history in told.items() for event in history.words]
    ends = []
    with db.connect() as connection:
        work = cancelled_under_way(Trial(connection))
        for arrivals in orders_that_differ(callbacks_of_both, alike=histories[0] == histories[1]):
            ledger = Ledger({step: int(history.in_effect) for step, history in told.items()})
            savepoint = connection.begin_nested()
            for step, event in arrivals:
                tell(work, step, event)
            ends.append(end_of(work, ledger))
            savepoint.rollback()
    return ends


@pytest.mark.parametrize("name", HISTORIES)
def test_no_order_of_the_callbacks_matters_after_the_cancellation(db: Engine, name: str) -> None:
    first, second = HISTORIES[name]

    ends = ends_of_every_order(db, (first, second))

    assert Counter(ends) == {WITHOUT_EFFECT: ARRIVALS // 2 if first == second else ARRIVALS}
    record(f"arrival orders of four callbacks, {name}", len(ends), "orders")


def test_without_waiting_for_the_answer_to_the_cancellation_an_effect_is_taken_back_twice(offers: Offers) -> None:
    """Kills: planning the undo as soon as the steps are final. The provider takes its effect back, and is asked to undo it as well."""
    work, ledger = cancelled_under_way(offers), Ledger({FIRST_STEP: 0, SECOND_STEP: 0})

    with patch.object(evaluating, "_is_unclear", lambda *_: False):
        for step in (FIRST_STEP, SECOND_STEP):
            tell(work, step, StepEvent.COMPLETE)
            tell(work, step, StepEvent.CONFIRM_CANCEL)
        comes_to_rest(work, ledger)

    assert ledger.net < 0


def first_step_completed(offers: Offers) -> Fulfilment:
    """Make an order of two steps that were sent, the first of which is completed."""
    work = Fulfilment.of_steps(offers, *STEPS)
    for name in (FIRST_STEP, SECOND_STEP):
        work.start(name)
    tell(work, FIRST_STEP, StepEvent.COMPLETE)
    return work


def the_second_completes(work: Fulfilment) -> None:
    tell(work, SECOND_STEP, StepEvent.COMPLETE)


def test_an_order_whose_last_step_completes_before_the_request_to_cancel_is_fulfilled(offers: Offers) -> None:
    work = first_step_completed(offers)

    the_second_completes(work)

    assert work.status == "FULFILLED"


def before_it_is_sent(work: Fulfilment) -> None:
    the_second_completes(work)


def before_it_is_answered(work: Fulfilment) -> None:
    work.start_cancelling(SECOND_STEP)
    the_second_completes(work)
    tell(work, SECOND_STEP, StepEvent.REFUSE_CANCEL)


def after_the_answer(work: Fulfilment) -> None:
    work.start_cancelling(SECOND_STEP)
    tell(work, SECOND_STEP, StepEvent.CONFIRM_CANCEL)
    the_second_completes(work)


IN_EFFECT = {before_it_is_sent: 1, before_it_is_answered: 1, after_the_answer: 0}
"""Moments at which the second step completes in the cancellation, and what the provider's ledger then has of that step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """What came of an order whose second step completed while it was cancelled. Each callback came twice."""

    end: End
    reasons: Sequence[str]  # of the order's transitions


@pytest.fixture(scope="module", params=IN_EFFECT, ids=lambda moment: moment.__name__)
def completed(request: pytest.FixtureRequest, new_offers: NewOffers) -> Completed:
    work, ledger = first_step_completed(new_offers()), Ledger({FIRST_STEP: 1, SECOND_STEP: IN_EFFECT[request.param]})
    work.cancel()

    request.param(work)

    return Completed(end=end_of(work, ledger), reasons=reasons_of(work))


def reasons_of(work: Fulfilment) -> list[str]:
    with work.offers.uow() as uow:
        entries = timelines.timeline(uow, work.order_id)
    return [each["reason"] for each in entries if each["kind"] == "TRANSITION" and each["aggregateType"] == "sales_order"]


def test_the_last_completion_at_every_moment_of_a_cancellation_leaves_no_effect(completed: Completed) -> None:
    assert completed.end == WITHOUT_EFFECT


def test_an_order_is_never_both_fulfilled_and_cancelled(completed: Completed) -> None:
    assert not {"ALL_STEPS_DONE", "UNDO_SETTLED"} <= set(completed.reasons)
