"""M12 and T6: an order is cancelled while its steps complete. For a fixed moment of the cancellation, no order of the callbacks matters.

What the provider did is told in advance, as its ledger would have it; what it says of it arrives in every order, each word twice. Then what
is in question is put to the ledger, undo steps are carried out, and the order and the net effect must be the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any
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

FIRST_STEP, SECOND_STEP = "A", "B"
STEPS = (StepSpecification(step_code=FIRST_STEP), StepSpecification(step_code=SECOND_STEP))
WORDS = {
    StepEvent.ACKNOWLEDGE: "step.accepted",
    StepEvent.COMPLETE: "step.completed",
    StepEvent.CONFIRM_CANCEL: "step.cancelled",
    StepEvent.REFUSE_CANCEL: "step.cancel_refused",
}


@dataclass
class Ledger:
    """What the provider has in effect, by step. An undo step takes its step's effect back."""

    effects: dict[str, int] = field(default_factory=dict)

    @property
    def net(self) -> int:
        return sum(self.effects.values())


@dataclass(frozen=True)
class History:
    """What a provider did with two steps whose cancellation it was asked for, and all that it says about it."""

    name: str
    effects: dict[str, int]
    words: tuple[tuple[str, StepEvent], ...]
    ends: str

    def __str__(self) -> str:
        return self.name


HISTORIES = [
    History("both completed, both too late", {FIRST_STEP: 1, SECOND_STEP: 1}, ((FIRST_STEP, StepEvent.COMPLETE), (FIRST_STEP, StepEvent.REFUSE_CANCEL), (SECOND_STEP, StepEvent.COMPLETE), (SECOND_STEP, StepEvent.REFUSE_CANCEL)), "CANCELLED"),
    History("both cancelled", {FIRST_STEP: 0, SECOND_STEP: 0}, ((FIRST_STEP, StepEvent.ACKNOWLEDGE), (FIRST_STEP, StepEvent.CONFIRM_CANCEL), (SECOND_STEP, StepEvent.ACKNOWLEDGE), (SECOND_STEP, StepEvent.CONFIRM_CANCEL)), "CANCELLED"),
    History("one each", {FIRST_STEP: 1, SECOND_STEP: 0}, ((FIRST_STEP, StepEvent.COMPLETE), (FIRST_STEP, StepEvent.REFUSE_CANCEL), (SECOND_STEP, StepEvent.ACKNOWLEDGE), (SECOND_STEP, StepEvent.CONFIRM_CANCEL)), "CANCELLED"),
    History("completed, then taken back", {FIRST_STEP: 0, SECOND_STEP: 0}, ((FIRST_STEP, StepEvent.COMPLETE), (FIRST_STEP, StepEvent.CONFIRM_CANCEL), (SECOND_STEP, StepEvent.COMPLETE), (SECOND_STEP, StepEvent.CONFIRM_CANCEL)), "CANCELLED"),
    History("taken back and too late", {FIRST_STEP: 0, SECOND_STEP: 1}, ((FIRST_STEP, StepEvent.COMPLETE), (FIRST_STEP, StepEvent.CONFIRM_CANCEL), (SECOND_STEP, StepEvent.COMPLETE), (SECOND_STEP, StepEvent.REFUSE_CANCEL)), "CANCELLED"),
    History("confirmed, but in effect", {FIRST_STEP: 1, SECOND_STEP: 0}, ((FIRST_STEP, StepEvent.COMPLETE), (FIRST_STEP, StepEvent.CONFIRM_CANCEL), (SECOND_STEP, StepEvent.CONFIRM_CANCEL), (SECOND_STEP, StepEvent.ACKNOWLEDGE)), "CANCELLED"),
]  # fmt: skip


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


@pytest.mark.parametrize("history", HISTORIES, ids=str)
def test_no_order_of_the_callbacks_matters_after_the_cancellation(db: Engine, history: History) -> None:
    seen: dict[tuple[Any, ...], Sequence[tuple[str, StepEvent]]] = {}
    count = 0
    # All within one transaction: each order of arrival begins with the same rows, and leaves none to the next.
    with db.connect() as connection:
        work = cancelled_under_way(Trial(connection))
        for words in permutations(history.words):
            ledger = Ledger(dict(history.effects))
            savepoint = connection.begin_nested()
            for step, event in words:
                tell(work, step, event)
            comes_to_rest(work, ledger)
            seen[work.status, work.cancellation().status, ledger.net] = words
            savepoint.rollback()
            count += 1

    assert list(seen) == [(history.ends, "DONE", 0)], seen
    record(f"arrival orders of four callbacks, {history}", count, "orders")


def test_without_waiting_for_the_answer_to_the_cancellation_an_effect_is_taken_back_twice(offers: Offers) -> None:
    """Kills: planning the undo as soon as the steps are final. The provider takes its effect back, and is asked to undo it as well."""
    work, ledger = cancelled_under_way(offers), Ledger({FIRST_STEP: 0, SECOND_STEP: 0})
    with patch.object(evaluating, "_is_unclear", lambda *_: False):
        for step in (FIRST_STEP, SECOND_STEP):
            tell(work, step, StepEvent.COMPLETE)
            tell(work, step, StepEvent.CONFIRM_CANCEL)
        comes_to_rest(work, ledger)

    assert ledger.net < 0


def the_second_completes(work: Fulfilment) -> None:
    tell(work, SECOND_STEP, StepEvent.COMPLETE)


def first_step_completed(offers: Offers) -> Fulfilment:
    """Make an order of two steps that were sent, the first of which is completed."""
    work = Fulfilment.of_steps(offers, *STEPS)
    for name in (FIRST_STEP, SECOND_STEP):
        work.start(name)
    tell(work, FIRST_STEP, StepEvent.COMPLETE)
    return work


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


@pytest.mark.parametrize(("moment", "in_effect"), [(before_it_is_sent, 1), (before_it_is_answered, 1), (after_the_answer, 0)])
def test_the_last_completion_at_every_moment_of_a_cancellation_leaves_no_effect(
    offers: Offers, moment: Callable[[Fulfilment], None], in_effect: int
) -> None:
    """`in_effect`: what the provider's ledger has of the second step. Each callback comes twice."""
    work, ledger = first_step_completed(offers), Ledger({FIRST_STEP: 1, SECOND_STEP: in_effect})
    work.cancel()

    moment(work)
    comes_to_rest(work, ledger)

    assert (work.status, work.cancellation().status, ledger.net) == ("CANCELLED", "DONE", 0)
    assert not {"ALL_STEPS_DONE", "UNDO_SETTLED"} <= {row["reason"] for row in final_transitions(work)}


def final_transitions(work: Fulfilment) -> list[dict[str, Any]]:
    with work.offers.uow() as uow:
        entries = timelines.timeline(uow, work.order_id)
    return [entry for entry in entries if entry["kind"] == "TRANSITION" and entry["aggregateType"] == "sales_order"]
