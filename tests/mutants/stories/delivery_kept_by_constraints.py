"""Commands about orders that only a unique index keeps from taking effect twice, once the layers before it are removed."""

from __future__ import annotations

from domain.delivery import callbacks, compensating
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.fallout.triaging import OpenCase
from tests.mutants.layers import Kept
from tests.mutants.populated_tenant import callback
from tests.mutants.telling import kept_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment

RESERVE = "RESERVE_INVENTORY"


@kept_by("uq_fallout_case_open")
def two_cases_about_one_trouble(trial: Trial) -> None:
    for _ in range(2):
        with trial.uow() as uow:
            triaging.open_case(uow, OpenCase(type=FalloutType.TECHNICAL, dedupe_key="trouble", detail="again"))
    if trial.count("fallout_case") == 1:
        raise Kept


@kept_by(
    "uq_fulfillment_step_tenant_id_compensates_step_id", masked_by=("uq_fulfillment_step_tenant_id_plan_id_line_id_step_code_kind",)
)
def two_undo_steps_for_one_step(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.complete(RESERVE)
    for _ in range(2):
        with trial.uow() as uow:
            undo = compensating.undo_late(uow, work.step(RESERVE))
    if undo is None:
        raise Kept


@kept_by("uq_cancellation_request_open")
def two_open_cancellations_of_one_order(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.ask_to_cancel()
    trial.by_hand("UPDATE sales_order SET status = 'IN_PROGRESS' WHERE tenant_id = :tenant")
    work.ask_to_cancel()


@kept_by("uq_provider_attempt_live")
def two_live_attempts_at_one_step(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    trial.by_hand("UPDATE fulfillment_step SET status = 'RETRYABLE' WHERE tenant_id = :tenant")
    work.start(RESERVE)


@kept_by("pk_external_callback_record")
def two_records_of_one_callback(trial: Trial) -> None:
    Fulfilment.running(trial)  # a tenant without any step gets no callbacks
    for _ in range(2):
        with trial.uow() as uow:
            received = callbacks.receive(uow, callback({}))
    if received.replayed:
        raise Kept
