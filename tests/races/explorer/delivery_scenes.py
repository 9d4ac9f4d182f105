"""Scenes of delivery: an order of two steps, A and B, in some state, brought there by the product's own commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text

from domain.catalog import StepSpecification
from domain.delivery import resolving, troubles
from domain.delivery.resolving import Resolution
from domain.delivery.steps import StepEvent
from domain.fallout import casework, triaging
from domain.fallout.casework import CaseCommand
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, Offers

FIRST_STEP, SECOND_STEP = "A", "B"
STEPS = (StepSpecification(step_code=FIRST_STEP), StepSpecification(step_code=SECOND_STEP))


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What every actor has read before they meet. `steps` are by name; an undo step is called `undo A`."""

    offers: Offers
    order: Row[Any]
    steps: Mapping[str, Row[Any]]
    request: Row[Any] | None
    case: Row[Any] | None
    contradiction: Row[Any] | None
    proposal: Row[Any] | None

    @classmethod
    def of(cls, work: Fulfilment) -> Delivery:
        """Read an order."""
        names = work.states()
        requests, cases, contradictions = work.requests(), work.cases(), work.contradictions()
        return cls(
            offers=work.offers,
            order=work.row(),
            steps={name: work.step(name) for name in names},
            request=requests[-1] if requests else None,
            case=cases[-1] if cases else None,
            contradiction=contradictions[-1] if contradictions else None,
            proposal=work.proposal(cases[-1]) if cases else None,
        )


Preparation = Callable[[Offers], Fulfilment]


def planned(offers: Offers) -> Fulfilment:
    return Fulfilment.of_steps(offers, *STEPS)


def accepted(offers: Offers) -> Fulfilment:
    return Fulfilment(offers, offers.accepted_quote().order_id)


def unknown_offering(offers: Offers) -> Fulfilment:
    """The catalog no longer has the offering of one line."""
    work = accepted(offers)
    execute(offers, "UPDATE sales_order_line SET product_offering_id = 'NO_LONGER_SOLD'")
    return work


def under_way(offers: Offers) -> Fulfilment:
    work = planned(offers)
    work.start(FIRST_STEP)
    return work


def last_steps(offers: Offers) -> Fulfilment:
    work = under_way(offers)
    work.start(SECOND_STEP)
    return work


def all_but_evaluated(*events: StepEvent) -> Preparation:
    """Every step is final, and the order has not been evaluated."""

    def prepare(offers: Offers) -> Fulfilment:
        work = last_steps(offers)
        for step, event in zip((FIRST_STEP, SECOND_STEP), events, strict=True):
            end(work, step, event)
        return work

    return prepare


def end(work: Fulfilment, step: str, event: StepEvent) -> None:
    """Let a step complete, or fail for good."""
    work.say_only(step, event)
    if event is StepEvent.FAIL_FINALLY:
        decide(work, step, StepEvent.RESOLVE_FAIL)


def decide(work: Fulfilment, step: str, event: StepEvent) -> None:
    held = work.step(step)
    with work.offers.uow("worker-1") as uow:
        resolving.decide_step(uow, held, event, reason="BY_POLICY")


def unknown(offers: Offers) -> Fulfilment:
    work = under_way(offers)
    work.infer(FIRST_STEP, StepEvent.TIME_OUT)
    return work


def retryable(offers: Offers) -> Fulfilment:
    work = unknown(offers)
    work.infer(FIRST_STEP, StepEvent.FIND_ABSENT)
    return work


def cancellation_requested(offers: Offers) -> Fulfilment:
    work = under_way(offers)
    work.ask_to_cancel()
    return work


def released_and_cancellation_requested(offers: Offers) -> Fulfilment:
    """A's request had an unknown outcome, a person had it sent again, and then the customer asked to cancel."""
    work = under_way(offers)
    work.infer(FIRST_STEP, StepEvent.FIND_UNCLEAR)
    decide(work, FIRST_STEP, StepEvent.RESOLVE_RETRY)
    work.ask_to_cancel()
    return work


def cancelling_under_way(offers: Offers) -> Fulfilment:
    """A's provider was asked to cancel it; B was never started."""
    work = under_way(offers)
    work.cancel()
    work.start_cancelling(FIRST_STEP)
    return work


def to_be_cancelled(offers: Offers) -> Fulfilment:
    """A must be cancelled, and its provider was not asked yet."""
    work = under_way(offers)
    work.cancel()
    return work


def contradicted(offers: Offers) -> Fulfilment:
    """A was completed, and then its provider reported that it was cancelled."""
    work = cancelling_under_way(offers)
    work.say(FIRST_STEP, StepEvent.COMPLETE, external_ref="r-1")
    work.say(FIRST_STEP, StepEvent.CONFIRM_CANCEL)
    return work


def to_be_undone(offers: Offers) -> Fulfilment:
    """A is completed and cannot be cancelled any more; the order has not been evaluated."""
    work = cancelling_under_way(offers)
    work.say_only(FIRST_STEP, StepEvent.COMPLETE)
    work.say_only(FIRST_STEP, StepEvent.REFUSE_CANCEL)
    return work


def undoing(offers: Offers) -> Fulfilment:
    work = to_be_undone(offers)
    work.evaluate()
    work.start("undo A")
    return work


def undone(event: StepEvent) -> Preparation:
    def prepare(offers: Offers) -> Fulfilment:
        work = undoing(offers)
        end(work, "undo A", event)
        return work

    return prepare


def held(offers: Offers) -> Fulfilment:
    """A was rejected; its case is open."""
    work = under_way(offers)
    work.say(FIRST_STEP, StepEvent.FAIL_FINALLY)
    step = work.step(FIRST_STEP)
    with offers.uow("worker-1") as uow:
        triaging.open_case(uow, troubles.of_held_step(step))
    return work


def held_and_cancellation_requested(offers: Offers) -> Fulfilment:
    """The cancellation of an order with a held step was requested."""
    work = held(offers)
    work.ask_to_cancel()
    return work


def blocked(offers: Offers) -> Fulfilment:
    """A is held and B is completed; the order has not been evaluated."""
    work = last_steps(offers)
    work.say_only(SECOND_STEP, StepEvent.COMPLETE)
    work.say_only(FIRST_STEP, StepEvent.FAIL_FINALLY)
    return work


def unblocked(offers: Offers) -> Fulfilment:
    """The order is held, and A may be sent again."""
    work = blocked(offers)
    work.evaluate()
    decide(work, FIRST_STEP, StepEvent.RESOLVE_RETRY)
    return work


def claimed(offers: Offers) -> Fulfilment:
    work = held(offers)
    work.claim(ANNA)
    return work


def proposed(offers: Offers) -> Fulfilment:
    """A second person is asked to confirm the provider's reference."""
    work = claimed(offers)
    work.propose(ANNA, external_ref="r-1", evidence="seen")
    return work


def left(offers: Offers) -> Fulfilment:
    """Anna's lease has run out."""
    work = claimed(offers)
    execute(offers, "UPDATE fallout_case SET claim_expires_at = now() - interval '1 minute'")
    return work


def put_aside(act: Callable[[Any, CaseCommand, str], Any]) -> Preparation:
    def prepare(offers: Offers) -> Fulfilment:
        work = claimed(offers)
        command = work.as_seen(ANNA)
        with offers.uow(ANNA) as uow:
            act(uow, command, "why")
        return work

    return prepare


def resolved(offers: Offers) -> Fulfilment:
    """Anna decided to retry A, and the retry has not ended."""
    work = claimed(offers)
    work.resolve(ANNA, Resolution.RETRY)
    return work


def retried_and_done(offers: Offers) -> Fulfilment:
    """The retry that Anna decided on has succeeded, and her case is still open."""
    work = resolved(offers)
    work.start(FIRST_STEP)
    work.say_only(FIRST_STEP, StepEvent.COMPLETE)
    return work


def execute(offers: Offers, statement: str) -> None:
    with offers.engine.begin() as connection:
        connection.execute(text(statement))


DELIVERIES: Mapping[str, Preparation] = {
    "order accepted": accepted,
    "order of what is not sold any more": unknown_offering,
    "order planned": planned,
    "step under way": under_way,
    "last steps": last_steps,
    "all done": all_but_evaluated(StepEvent.COMPLETE, StepEvent.COMPLETE),
    "all failed": all_but_evaluated(StepEvent.FAIL_FINALLY, StepEvent.FAIL_FINALLY),
    "some failed": all_but_evaluated(StepEvent.COMPLETE, StepEvent.FAIL_FINALLY),
    "step unknown": unknown,
    "step retryable": retryable,
    "cancellation asked": cancellation_requested,
    "cancellation of what is sent again": released_and_cancellation_requested,
    "step to be cancelled": to_be_cancelled,
    "step being cancelled": cancelling_under_way,
    "step contradicted": contradicted,
    "step to be undone": to_be_undone,
    "step being undone": undoing,
    "step undone": undone(StepEvent.COMPLETE),
    "undo failed": undone(StepEvent.FAIL_FINALLY),
    "step held": held,
    "cancellation of what is held": held_and_cancellation_requested,
    "order blocked": blocked,
    "order unblocked": unblocked,
    "case claimed": claimed,
    "case proposed": proposed,
    "case left": left,
    "case waiting": put_aside(casework.request_information),
    "case on hold": put_aside(casework.hold),
    "case resolved": resolved,
    "case proven right": retried_and_done,
}
