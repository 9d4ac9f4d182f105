"""Evaluating an order: which steps have become ready, and whether the whole is settled.

Runs in a transaction of its own, after the step's: two last steps that end together would each see the other as open
(domain.md, finding 1). Every path comes here: the worker, the callback, the process's last task, the reconciler.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import exists, func, select, update

from domain import steps, workflows
from domain.fulfilling import HAS_OPEN_PREDECESSOR, STEP
from domain.orders import FINAL, ORDER_MATRIX, OrderEvent, OrderStatus, SalesOrder, StepsOpen
from domain.steps import DONE, StepStatus
from domain.store import Guard, Move, UnitOfWork, is_one_of
from domain.store.facts import WorkflowCommandKind


def _order_steps(*conditions: Any) -> Any:
    # Sound in the order's own transaction: every step's outcome was committed before the evaluation began, and final is final.
    return exists(select(STEP.c.id).where(STEP.c.tenant_id == SalesOrder.tenant_id, STEP.c.order_id == SalesOrder.id, *conditions))


NO_STEP_OPEN = ~_order_steps(~is_one_of(STEP.c.status, *steps.FINAL))
NOTHING_LOST = ~_order_steps(~is_one_of(STEP.c.status, *DONE))
NOTHING_DONE = ~_order_steps(STEP.c.status == StepStatus.COMPLETED)
OUTCOMES = {
    OrderStatus.FULFILLED: Move(
        SalesOrder, ORDER_MATRIX, OrderEvent.ALL_STEPS_DONE, Guard(StepsOpen, NOTHING_LOST), emits="OrderFulfilled"
    ),
    OrderStatus.FAILED: Move(
        SalesOrder, ORDER_MATRIX, OrderEvent.ALL_REQUIRED_FAILED, Guard(StepsOpen, NO_STEP_OPEN & NOTHING_DONE), emits="OrderFailed"
    ),
    OrderStatus.PARTIALLY_FULFILLED: Move(
        SalesOrder,
        ORDER_MATRIX,
        OrderEvent.MIXED_FINAL,
        Guard(StepsOpen, NO_STEP_OPEN & ~NOTHING_LOST & ~NOTHING_DONE),
        emits="OrderPartiallyFulfilled",
    ),
}


def evaluate(uow: UnitOfWork, order_id: UUID) -> str:
    """Wake the steps that have become ready and settle the order when its last step is final; returns the order's status."""
    order = uow.read(SalesOrder, order_id, lock=True)
    if order.status in FINAL:
        return str(order.status)
    _announce_ready(uow, order_id)
    states = set(uow.connection.scalars(select(STEP.c.status).filter_by(tenant_id=uow.tenant_id, order_id=order_id)))
    if not states or not states <= steps.FINAL:
        return str(order.status)
    return str(uow.apply(OUTCOMES[_outcome(states)], order_id=order_id).status)


def _outcome(states: set[str]) -> OrderStatus:
    if states <= set(DONE):
        return OrderStatus.FULFILLED
    return OrderStatus.PARTIALLY_FULFILLED if StepStatus.COMPLETED in states else OrderStatus.FAILED


def _announce_ready(uow: UnitOfWork, order_id: UUID) -> None:
    ready = (
        update(STEP)
        .filter_by(tenant_id=uow.tenant_id, order_id=order_id, status=StepStatus.PENDING, ready_at=None)
        .where(~HAS_OPEN_PREDECESSOR)
        .values(ready_at=func.clock_timestamp())
        .returning(STEP.c.id)
    )
    for row in uow.connection.execute(ready):
        key = steps.business_key(uow.tenant_id, row.id)
        uow.ask_engine(WorkflowCommandKind.CORRELATE, "FulfillmentStepReady", key, expires_after=workflows.MESSAGE_MATTERS)
