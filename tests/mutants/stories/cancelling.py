"""An order is cancelled, and a person decides on a held step."""

from __future__ import annotations

from functools import partial

from domain.delivery.cancelling import CANCEL_ACCEPTED
from domain.delivery.order_moves import BLOCK
from domain.delivery.step_moves import DECISIONS
from domain.delivery.steps import StepEvent
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment

RESERVE, CHECK, PROVISION = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY", "PROVISION_SERVICE"


@refused_by("sales_order.request_cancel/ORDER_VERSION_CONFLICT")
def cancelling_an_order_on_an_older_version(trial: Trial) -> None:
    Fulfilment.running(trial).ask_to_cancel(expected_version=2)


def past_the_point_of_no_return(trial: Trial) -> Fulfilment:
    work = Fulfilment.running(trial)
    work.complete(RESERVE, CHECK)
    work.start(PROVISION)
    return work


@refused_by("sales_order.request_cancel/PONR_REACHED")
def cancelling_past_the_point_of_no_return(trial: Trial) -> None:
    work = past_the_point_of_no_return(trial)
    work.say(PROVISION, StepEvent.COMPLETE)
    work.ask_to_cancel()


@refused_by("sales_order.cancel_accepted/PONR_REACHED")
def accepting_a_cancellation_after_the_point_of_no_return(trial: Trial) -> None:
    work = past_the_point_of_no_return(trial)
    work.ask_to_cancel()
    work.say(PROVISION, StepEvent.COMPLETE)
    with trial.uow() as uow:
        uow.apply(CANCEL_ACCEPTED, order_id=work.order_id)


@refused_by("sales_order.blocked/STEPS_OPEN")
def holding_an_order_of_which_no_step_is_held(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    with trial.uow() as uow:
        uow.apply(BLOCK, order_id=work.order_id, hold_reason="nothing")


@refused_by("fulfillment_step.cancellable/STEP_OBSOLETE")
def cancelling_a_step_of_an_order_that_is_not_being_cancelled(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    work.start_cancelling(RESERVE)


@refused_by("fulfillment_step.cancellable/STEP_NOT_CANCELLABLE")
def cancelling_at_a_provider_that_takes_no_cancellations(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    work.cancel()
    trial.by_hand("UPDATE fulfillment_step SET cancellable = false WHERE tenant_id = :tenant")
    work.start_cancelling(RESERVE)


def held(trial: Trial) -> Fulfilment:
    """An order with a held step: the provider rejected it after it had been sent."""
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    return work


def deciding_on_an_older_version_of_the_step(event: StepEvent, trial: Trial) -> None:
    decide(held(trial), event, versions_ago=1)


def decide(work: Fulfilment, event: StepEvent, versions_ago: int = 0) -> None:
    step = work.step(RESERVE)
    with work.offers.uow() as uow:
        uow.apply(
            DECISIONS[event],
            step_id=step.id,
            expected_version=step.version - versions_ago,
            reason="test",
            external_ref="r-1",
            request_changes={},
        )


for each in DECISIONS:
    refused_by(f"fulfillment_step.{each.value.lower()}/STEP_VERSION_CONFLICT")(
        partial(deciding_on_an_older_version_of_the_step, each)
    )


@refused_by("fulfillment_step.resolve_retry/RESOLUTION_NOT_ALLOWED")
def retrying_a_step_that_may_have_taken_effect_at_a_provider_that_is_not_idempotent(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    trial.by_hand(
        "UPDATE fulfillment_step SET idempotent = false, status = 'HELD' WHERE tenant_id = :tenant AND step_code = 'RESERVE_INVENTORY'"
    )
    decide(work, StepEvent.RESOLVE_RETRY)


@refused_by("fulfillment_step.resolve_repaired/RESOLUTION_NOT_ALLOWED")
def repairing_a_step_that_may_have_taken_effect(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    trial.by_hand("UPDATE fulfillment_step SET status = 'HELD' WHERE tenant_id = :tenant AND step_code = 'RESERVE_INVENTORY'")
    decide(work, StepEvent.RESOLVE_REPAIRED)
