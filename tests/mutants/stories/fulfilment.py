"""An order is carried out, step by step."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from uuid import UUID

from domain.catalog import FIBRE
from domain.delivery import fulfilling, reading, starting
from domain.delivery.fulfilling import Infer, OutcomeSource
from domain.delivery.order_moves import OUTCOMES
from domain.delivery.orders import OrderEvent
from domain.delivery.starting import StartStep
from domain.delivery.steps import StepEvent
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.offers import line


@refused_by("sales_order.running/ORDER_NOT_RUNNING")
def starting_a_step_of_an_order_on_hold(trial: Trial) -> None:
    order = trial.running_order()
    trial.by_hand("UPDATE sales_order SET status = 'HELD' WHERE tenant_id = :tenant")
    trial.start_step(order.steps["CHECK_SERVICEABILITY"])


@refused_by("fulfillment_step.start/PREDECESSOR_OPEN")
def starting_a_step_before_its_predecessors(trial: Trial) -> None:
    trial.start_step(trial.running_order().steps["PROVISION_SERVICE"])


@refused_by("fulfillment_step.start/STEP_VERSION_CONFLICT")
def starting_a_step_from_an_older_version(trial: Trial) -> None:
    step_id = trial.running_order().steps["CHECK_SERVICEABILITY"]
    command = StartStep(step_id=step_id, expected_version=0, worker_id="worker-1", external_task_id=None)
    with trial.uow() as uow:
        starting.start_step(uow, command)


@refused_by("fulfillment_step.start/STEP_OUTCOME_UNKNOWN")
def sending_a_request_again_that_its_provider_would_not_recognise(trial: Trial) -> None:
    step_id = trial.running_order().steps["CHECK_SERVICEABILITY"]
    trial.start_step(step_id)
    trial.by_hand("UPDATE provider_attempt SET status = 'REPEATED' WHERE tenant_id = :tenant")
    trial.by_hand(
        "UPDATE fulfillment_step SET status = 'RETRYABLE', idempotent = false WHERE tenant_id = :tenant AND id = :id", id=step_id
    )
    trial.start_step(step_id)


@refused_by("fulfillment_step.time_out/ATTEMPT_ALIVE")
def timing_out_a_worker_that_has_just_sent_a_heartbeat(trial: Trial) -> None:
    infer(StepEvent.TIME_OUT, trial, attempt_stale_after=timedelta(hours=1))


@refused_by("fulfillment_step.find_absent/ABSENCE_NOT_PROVEN")
def inferring_absence_before_the_safe_interval_is_over(trial: Trial) -> None:
    infer(StepEvent.FIND_ABSENT, trial, request_safe_interval=timedelta(hours=1))


def inferring_on_an_older_version(event: StepEvent, trial: Trial) -> None:
    infer(event, trial, versions_ago=1)


def infer(event: StepEvent, trial: Trial, *, versions_ago: int = 0, **intervals: timedelta) -> None:
    step_id = trial.running_order(lines=[line(1, FIBRE)]).steps["CHECK_SERVICEABILITY"]
    trial.start_step(step_id)
    command = Infer(
        step_id=step_id,
        expected_version=version_of(trial, step_id) - versions_ago,
        event=event,
        source=OutcomeSource.RECONCILIATION,
        **intervals,  # type: ignore[arg-type]  # request_safe_interval or attempt_stale_after
    )
    with trial.uow() as uow:
        fulfilling.infer(uow, command)


def version_of(trial: Trial, step_id: UUID) -> int:
    with trial.uow() as uow:
        return int(reading.step(uow, step_id).version)


for inference in (StepEvent.TIME_OUT, StepEvent.FIND_ABSENT, StepEvent.FIND_UNCLEAR):
    refused_by(f"fulfillment_step.{inference.value.lower()}/STEP_VERSION_CONFLICT")(
        partial(inferring_on_an_older_version, inference)
    )


def settling_an_order_whose_steps_are_open(event: OrderEvent, trial: Trial) -> None:
    order = trial.running_order()
    if event in UNDOING:
        trial.by_hand("UPDATE sales_order SET status = 'CANCELLING' WHERE tenant_id = :tenant")
    with trial.uow() as uow:
        uow.apply(OUTCOMES[event], order_id=order.order_id)


UNDOING = (OrderEvent.UNDO_SETTLED, OrderEvent.UNDO_INCOMPLETE)
for event, move in OUTCOMES.items():
    refused_by(f"{move.name}/STEPS_OPEN")(partial(settling_an_order_whose_steps_are_open, event))
