"""Every way a whole order comes to an end, or to a halt. The condition on its steps stands in the write.

Such a guard may read the steps' rows: each outcome was committed before the evaluation began, and a final step stays final
(docs/domain.md#orders-and-evaluation).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Text, exists, select, text

from domain.delivery import steps
from domain.delivery.attempts import ATTEMPT, LIVE, AttemptCommand
from domain.delivery.contradictions import CONTRADICTION, Verdict
from domain.delivery.orders import ORDER_MATRIX, OrderEvent, SalesOrder, StepsOpen
from domain.delivery.steps import DONE, STEP, StepKind, StepStatus
from domain.store import Guard, Move, is_one_of, param

UNDO = STEP.alias("undo")


def _order_steps(*conditions: Any) -> Any:
    return exists(select(STEP.c.id).where(STEP.c.tenant_id == SalesOrder.tenant_id, STEP.c.order_id == SalesOrder.id, *conditions))


# The effect was undone, or the provider itself has taken it back.
EFFECT_GONE = exists(
    select(UNDO.c.id).where(
        UNDO.c.tenant_id == STEP.c.tenant_id, UNDO.c.compensates_step_id == STEP.c.id, UNDO.c.status == StepStatus.COMPLETED
    )
) | exists(
    select(CONTRADICTION.c.id).where(
        CONTRADICTION.c.tenant_id == STEP.c.tenant_id,
        CONTRADICTION.c.step_id == STEP.c.id,
        CONTRADICTION.c.answer == Verdict.REVERSED,
    )
)
# The provider has not said yet whether it accepts a cancellation, or which of two contradicting facts holds.
IS_UNCLEAR = _order_steps(
    exists(
        select(ATTEMPT.c.id).where(
            ATTEMPT.c.tenant_id == STEP.c.tenant_id,
            ATTEMPT.c.step_id == STEP.c.id,
            ATTEMPT.c.command == AttemptCommand.CANCEL,
            text(f"provider_attempt.{LIVE}"),
        )
    )
    | exists(
        select(CONTRADICTION.c.id).where(
            CONTRADICTION.c.tenant_id == STEP.c.tenant_id, CONTRADICTION.c.step_id == STEP.c.id, CONTRADICTION.c.answer.is_(None)
        )
    )
)
FULFILS = STEP.c.kind == StepKind.FULFILL
NO_STEP_OPEN = ~_order_steps(~is_one_of(STEP.c.status, *steps.FINAL))
NOTHING_LOST = ~_order_steps(FULFILS, ~is_one_of(STEP.c.status, *DONE))
NOTHING_DONE = ~_order_steps(FULFILS, STEP.c.status == StepStatus.COMPLETED)
NOTHING_LEFT = ~_order_steps(FULFILS, STEP.c.status == StepStatus.COMPLETED, ~EFFECT_GONE)


def _move(event: OrderEvent, condition: Any, emits: str, **changes: Any) -> Move:
    return Move(SalesOrder, ORDER_MATRIX, event, Guard(StepsOpen, condition), emits=emits, **changes)


OUTCOMES = {
    OrderEvent.ALL_STEPS_DONE: _move(OrderEvent.ALL_STEPS_DONE, NO_STEP_OPEN & NOTHING_LOST, "OrderFulfilled"),
    OrderEvent.ALL_REQUIRED_FAILED: _move(
        OrderEvent.ALL_REQUIRED_FAILED, NO_STEP_OPEN & ~NOTHING_LOST & NOTHING_DONE, "OrderFailed"
    ),
    OrderEvent.MIXED_FINAL: _move(OrderEvent.MIXED_FINAL, NO_STEP_OPEN & ~NOTHING_LOST & ~NOTHING_DONE, "OrderPartiallyFulfilled"),
    OrderEvent.UNDO_SETTLED: _move(OrderEvent.UNDO_SETTLED, NO_STEP_OPEN & NOTHING_LEFT, "OrderCancelled"),
    OrderEvent.UNDO_INCOMPLETE: _move(OrderEvent.UNDO_INCOMPLETE, NO_STEP_OPEN & ~NOTHING_LEFT, "OrderPartiallyFulfilled"),
}
HOLD_REASON = {SalesOrder.hold_reason: param("hold_reason", Text())}
BLOCK = Move(
    SalesOrder,
    ORDER_MATRIX,
    OrderEvent.BLOCKED,
    # An order that cannot be planned has no step.
    Guard(StepsOpen, _order_steps(STEP.c.status == StepStatus.HELD) | ~_order_steps()),
    sets=HOLD_REASON,
    emits="OrderHeld",
)
UNBLOCK = Move(SalesOrder, ORDER_MATRIX, OrderEvent.UNBLOCKED, sets={SalesOrder.hold_reason: None}, emits="OrderResumed")
