"""The guards of orders, steps and cases: one story for each condition.

Many conditions stand inside a `NOT EXISTS` and limit what the guard refuses: without such a condition, a right command is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from domain.delivery import compensating, fulfilling
from domain.delivery.cancelling import CANCEL_ACCEPTED
from domain.delivery.fulfilling import Infer, OutcomeSource
from domain.delivery.order_moves import OUTCOMES
from domain.delivery.orders import OrderEvent, OrderStatus
from domain.delivery.step_moves import DECISIONS
from domain.delivery.steps import StepEvent
from tests.mutants.conditions import ON
from tests.mutants.stories.cancelling import cancelling_an_order_on_an_older_version
from tests.mutants.stories.fulfilment import (
    inferring_absence_before_the_safe_interval_is_over,
    timing_out_a_worker_that_has_just_sent_a_heartbeat,
)
from tests.mutants.telling import allowed_by, refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment

RESERVE, CHECK = "RESERVE_INVENTORY", "CHECK_SERVICEABILITY"
ALIVE, NOT_PROVEN = "fulfillment_step.time_out/ATTEMPT_ALIVE", "fulfillment_step.find_absent/ABSENCE_NOT_PROVEN"
RETRY, REPAIRED = (f"fulfillment_step.resolve_{name}/RESOLUTION_NOT_ALLOWED" for name in ("retry", "repaired"))
AGAIN = "fulfillment_step.start/STEP_OUTCOME_UNKNOWN"
COMMAND, STATUS, SENT_AT = (f"provider_attempt.{name}" for name in ("command", "status", "sent_at"))

refused_by(f"{ALIVE}{ON}provider_attempt.heartbeat_at")(timing_out_a_worker_that_has_just_sent_a_heartbeat)
refused_by(f"{NOT_PROVEN}{ON}{SENT_AT}")(inferring_absence_before_the_safe_interval_is_over)
refused_by(f"sales_order.request_cancel/ORDER_VERSION_CONFLICT{ON}sales_order.version")(cancelling_an_order_on_an_older_version)


def inferring_from_an_attempt_that_does_not_count(event: StepEvent, attempt: str, trial: Trial) -> None:
    """Infer something about an attempt, while the step has only an attempt of another command or state."""
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    trial.by_hand(f"UPDATE provider_attempt SET {attempt} WHERE tenant_id = :tenant")
    step = work.step(RESERVE)
    conclusion = Infer(step_id=step.id, expected_version=step.version, event=event, source=OutcomeSource.RECONCILIATION)
    with trial.uow() as uow:
        fulfilling.infer(uow, conclusion)


OTHER = {COMMAND: "command = 'CANCEL'", STATUS: "status = 'FAILED'"}
for guard, event in ((ALIVE, StepEvent.TIME_OUT), (NOT_PROVEN, StepEvent.FIND_ABSENT)):
    for column, attempt in OTHER.items():
        refused_by(f"{guard}{ON}{column}")(partial(inferring_from_an_attempt_that_does_not_count, event, attempt))


def decided(event: StepEvent, before: Callable[[Trial], object], trial: Trial, *, idempotent: bool = False) -> None:
    """A person decides that a held step, which had been sent, is sent again."""
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    before(trial)
    trial.by_hand("UPDATE fulfillment_step SET status = 'HELD', idempotent = :so WHERE tenant_id = :tenant", so=idempotent)
    step = work.step(RESERVE)
    with trial.uow() as uow:
        uow.apply(DECISIONS[event], step_id=step.id, expected_version=step.version, reason="test", request_changes={})


def changed(attempt: str) -> Callable[[Trial], object]:
    return lambda trial: trial.by_hand(f"UPDATE provider_attempt SET {attempt} WHERE tenant_id = :tenant")


def cancelled_long_ago(trial: Trial) -> None:
    """Add an old request to cancel to a step whose request was just sent."""
    trial.by_hand("""
        INSERT INTO provider_attempt (tenant_id, id, step_id, command, attempt_no, idempotency_key, request_hash, status, worker_id,
            sent_at, heartbeat_at)
        SELECT tenant_id, gen_random_uuid(), step_id, 'CANCEL', 1, 'by hand', '', 'FAILED', 'worker-1', now() - interval '1 year', now()
        FROM provider_attempt WHERE tenant_id = :tenant
    """)


def repeated(before: Callable[[Trial], object], trial: Trial, *, idempotent: bool = False) -> None:
    """A worker sends a request again that was sent before."""
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    before(trial)
    so = "UPDATE fulfillment_step SET status = 'RETRYABLE', idempotent = :so WHERE tenant_id = :tenant AND step_code = :code"
    trial.by_hand(so, so=idempotent, code=RESERVE)
    work.start(RESERVE)


def repeated_after_a_cancellation_long_ago(trial: Trial) -> None:
    changed("status = 'REPEATED'")(trial)
    cancelled_long_ago(trial)


for column, attempt in OTHER.items():
    allowed_by(f"{AGAIN}{ON}{column}")(partial(repeated, changed(attempt)))
allowed_by(f"{AGAIN}{ON}{COMMAND}#2")(partial(repeated, repeated_after_a_cancellation_long_ago, idempotent=True))
allowed_by(f"{AGAIN}{ON}{SENT_AT}")(partial(repeated, changed("status = 'REPEATED'"), idempotent=True))
for guard, event in ((RETRY, StepEvent.RESOLVE_RETRY), (REPAIRED, StepEvent.RESOLVE_REPAIRED)):
    for column, attempt in OTHER.items():
        allowed_by(f"{guard}{ON}{column}")(partial(decided, event, changed(attempt)))
allowed_by(f"{RETRY}{ON}{COMMAND}#2")(partial(decided, StepEvent.RESOLVE_RETRY, cancelled_long_ago, idempotent=True))
allowed_by(f"{RETRY}{ON}{SENT_AT}")(partial(decided, StepEvent.RESOLVE_RETRY, changed("status = 'SENT'"), idempotent=True))


@refused_by(f"sales_order.request_cancel/ORDER_VERSION_CONFLICT{ON}sales_order.status")
def cancelling_an_order_in_another_state_than_the_customer_saw(trial: Trial) -> None:
    Fulfilment.running(trial).ask_to_cancel(expected_status="HELD")


@allowed_by(*(f"sales_order.request_cancel/PONR_REACHED{ON}fulfillment_step.{name}" for name in ("is_ponr", "status")))
def cancelling_before_the_point_of_no_return(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.complete(RESERVE)
    work.ask_to_cancel()


@allowed_by(*(f"sales_order.cancel_accepted/PONR_REACHED{ON}fulfillment_step.{name}" for name in ("is_ponr", "status")))
def accepting_a_cancellation_before_the_point_of_no_return(trial: Trial) -> None:
    work = Fulfilment.running(trial)
    work.complete(RESERVE)
    work.ask_to_cancel()
    with trial.uow() as uow:
        uow.apply(CANCEL_ACCEPTED, order_id=work.order_id)


def settled(event: OrderEvent, fulfil: str, undo: str | None, trial: Trial, *, answer: str | None = None) -> None:
    """Settle an order whose steps are in state `fulfil` (or the first and the others in two states); `undo` is the state of the undo step."""
    work = Fulfilment.running(trial)
    is_undoing = event in {OrderEvent.UNDO_SETTLED, OrderEvent.UNDO_INCOMPLETE}
    status = OrderStatus.CANCELLING if is_undoing else OrderStatus.IN_PROGRESS
    trial.by_hand("UPDATE sales_order SET status = :status WHERE tenant_id = :tenant", status=status)
    if undo is not None:
        with trial.uow() as uow:
            compensating.plan_undo(uow, [work.step(RESERVE)])
    first, _, others = fulfil.partition(", ")
    trial.by_hand(
        "UPDATE fulfillment_step SET status = CASE WHEN kind = 'COMPENSATE' THEN :undo WHEN step_code = :first_code THEN :first "
        "ELSE :others END WHERE tenant_id = :tenant",
        undo=undo or "",
        first_code=RESERVE,
        first=first,
        others=others or first,
    )
    if answer is not None:
        trial.by_hand(
            "INSERT INTO step_contradiction (tenant_id, id, step_id, said, known, source, answer, answered_at) "
            "VALUES (:tenant, gen_random_uuid(), :step, 'CONFIRM_CANCEL', 'COMPLETED', 'CALLBACK', :answer, now())",
            step=work.step(RESERVE).id,
            answer=answer,
        )
    with trial.uow() as uow:
        uow.apply(OUTCOMES[event], order_id=work.order_id)


def on(event: OrderEvent, column: str) -> str:
    return f"{OUTCOMES[event].name}/STEPS_OPEN{ON}{column}"


OPEN, KIND, SECOND_STATUS, THIRD_STATUS = (
    "fulfillment_step.status",
    "fulfillment_step.kind",
    "fulfillment_step.status#2",
    "fulfillment_step.status#3",
)
UNDO, ANSWER = "undo.status", "step_contradiction.answer"
RIGHT: dict[tuple[OrderEvent, str], tuple[Any, ...]] = {
    (OrderEvent.ALL_STEPS_DONE, OPEN): ("COMPLETED", None),
    (OrderEvent.ALL_STEPS_DONE, KIND): ("COMPLETED", "FAILED"),
    (OrderEvent.ALL_STEPS_DONE, SECOND_STATUS): ("COMPLETED", None),
    (OrderEvent.ALL_REQUIRED_FAILED, OPEN): ("FAILED", None),
    (OrderEvent.ALL_REQUIRED_FAILED, KIND): ("FAILED", "COMPLETED"),
    (OrderEvent.ALL_REQUIRED_FAILED, SECOND_STATUS): ("FAILED", None),
    (OrderEvent.MIXED_FINAL, OPEN): ("COMPLETED, FAILED", None),
    (OrderEvent.UNDO_SETTLED, OPEN): ("CANCELLED", None),
    (OrderEvent.UNDO_SETTLED, KIND): ("CANCELLED", "COMPLETED"),
    (OrderEvent.UNDO_SETTLED, SECOND_STATUS): ("CANCELLED", None),
    (OrderEvent.UNDO_INCOMPLETE, OPEN): ("COMPLETED, CANCELLED", None),
    (OrderEvent.UNDO_INCOMPLETE, UNDO): ("COMPLETED, CANCELLED", "FAILED"),
    (OrderEvent.UNDO_INCOMPLETE, ANSWER): ("COMPLETED, CANCELLED", None, "IN_EFFECT"),
}
"""Orders that must settle, and would not without the condition: states of their steps, of the undo, verdict of a contradiction."""
WRONG: dict[tuple[OrderEvent, str], tuple[Any, ...]] = {
    (OrderEvent.ALL_REQUIRED_FAILED, THIRD_STATUS): ("SKIPPED", None),
    (OrderEvent.MIXED_FINAL, KIND): ("COMPLETED", "FAILED"),
    (OrderEvent.MIXED_FINAL, SECOND_STATUS): ("COMPLETED", None),
    (OrderEvent.MIXED_FINAL, THIRD_STATUS): ("FAILED", None),
    (OrderEvent.UNDO_SETTLED, UNDO): ("COMPLETED, CANCELLED", "FAILED"),
    (OrderEvent.UNDO_SETTLED, ANSWER): ("COMPLETED, CANCELLED", None, "IN_EFFECT"),
    (OrderEvent.UNDO_INCOMPLETE, KIND): ("CANCELLED", "COMPLETED"),
    (OrderEvent.UNDO_INCOMPLETE, SECOND_STATUS): ("CANCELLED", None),
}
"""The same for orders that must not settle, and would without the condition."""
for outcomes, register in ((RIGHT, allowed_by), (WRONG, refused_by)):
    for (outcome, condition), (fulfil, undo, *answers) in outcomes.items():
        found = answers[0] if answers else None
        register(on(outcome, condition))(partial(settled, outcome, fulfil, undo, answer=found))
