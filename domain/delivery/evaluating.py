"""Evaluating an order: which steps have become ready, whether it is blocked, what must be undone, and whether the whole is settled.

Runs in a transaction of its own, after the step's: two last steps that end together would each see the other as open
(domain.md, finding 1). Every path comes here: the worker, the callback, the process's last task, a person's decision, the reconciler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, update

from domain import messages
from domain.delivery import cancellations, cancelling, compensating, orders, steps
from domain.delivery.order_moves import BLOCK, IS_UNCLEAR, OUTCOMES, UNBLOCK
from domain.delivery.orders import FINAL, OrderEvent, OrderStatus, SalesOrder
from domain.delivery.step_moves import DEPENDENCY, HAS_OPEN_PREDECESSOR, STEP
from domain.delivery.steps import DONE, StepStatus
from domain.fallout import triaging
from domain.store import UnitOfWork

PREDECESSOR_LOST = "PREDECESSOR_LOST"


def evaluate(uow: UnitOfWork, order_id: UUID, *, tells: bool = True) -> str:
    """Bring the order to where its steps have brought it; returns its status.

    `tells` False: it is the order's own process that asks, and need not be told what came of it.
    """
    order = uow.read(SalesOrder, order_id, lock=True)
    if order.status in FINAL:
        _verify_cases(uow, order_id, _steps(uow, order_id))
        return str(order.status)
    _announce_ready(uow, order_id)
    rows = _settle_idle(uow, order, _steps(uow, order_id))
    known = len(rows)
    # Looked at once: an answer that comes between two looks would leave the order settled and nothing undone.
    is_clear = order.status == OrderStatus.CANCELLING and not _is_unclear(uow, order_id)
    if is_clear:
        rows = _undo(uow, order_id, rows)
    _verify_cases(uow, order_id, rows)
    event = _event(uow, order, rows, is_clear=is_clear)
    if tells and order.status == OrderStatus.CANCELLING and (event is not None or len(rows) > known):
        _tell(uow, order)
    return str(_apply(uow, order, event, rows).status if event is not None else order.status)


def _event(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]], *, is_clear: bool) -> OrderEvent | None:
    is_final = all(step.status in steps.FINAL for step in rows)
    if order.status == OrderStatus.CANCELLING:
        return _undo_event(uow, order, rows) if is_final and is_clear else None
    if not rows or order.status == OrderStatus.CREATED:
        return None
    fulfilling = [step.status for step in rows if step.kind == "FULFILL"]
    if is_final:
        if set(fulfilling) <= set(DONE):
            return OrderEvent.ALL_STEPS_DONE
        return OrderEvent.MIXED_FINAL if StepStatus.COMPLETED in fulfilling else OrderEvent.ALL_REQUIRED_FAILED
    if is_blocked(uow, rows):
        return OrderEvent.BLOCKED if order.status == OrderStatus.IN_PROGRESS else None
    return OrderEvent.UNBLOCKED if order.status == OrderStatus.HELD else None


def _undo_event(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]]) -> OrderEvent:
    gone = compensating.reversed_steps(uow, order.id)
    undone = {done for done, undo in compensating.undo_steps(rows).items() if undo.status == StepStatus.COMPLETED}
    left = [step for step in rows if step.kind == "FULFILL" and step.status == StepStatus.COMPLETED]
    return OrderEvent.UNDO_SETTLED if {step.id for step in left} <= gone | undone else OrderEvent.UNDO_INCOMPLETE


def is_blocked(uow: UnitOfWork, rows: Sequence[Row[Any]]) -> bool:
    """Whether nothing of an order can go on: a step is held, and every other one is final or waits for a held one."""
    held = {step.id for step in rows if step.status == StepStatus.HELD}
    waiting = {step.id for step in rows if step.status == StepStatus.PENDING}
    others = {step.id for step in rows if step.status not in steps.FINAL} - held
    if not held or others - waiting:
        return False
    reached, links = held, _links(uow, others)
    while more := {step_id for step_id, before in links if before in reached} - reached:
        reached |= more
    return others <= reached


def _links(uow: UnitOfWork, step_ids: set[UUID]) -> list[tuple[UUID, UUID]]:
    query = select(DEPENDENCY.c.step_id, DEPENDENCY.c.depends_on_step_id).filter_by(tenant_id=uow.tenant_id)
    return [
        (row.step_id, row.depends_on_step_id) for row in uow.connection.execute(query.where(DEPENDENCY.c.step_id.in_(step_ids)))
    ]


def _apply(uow: UnitOfWork, order: Row[Any], event: OrderEvent, rows: Sequence[Row[Any]]) -> Row[Any]:
    if event is OrderEvent.BLOCKED:
        held = ", ".join(sorted(step.step_code for step in rows if step.status == StepStatus.HELD))
        return uow.apply(BLOCK, order_id=order.id, hold_reason=f"held: {held}")
    if event is OrderEvent.UNBLOCKED:
        return uow.apply(UNBLOCK, order_id=order.id)
    asked = cancelling.open_request(uow, order.id)
    if asked is not None and order.status == OrderStatus.CANCEL_REQUESTED:
        cancelling.decline(uow, asked, cancelling.POLICY, "TOO_LATE")
    settled = uow.apply(OUTCOMES[event], order_id=order.id)
    if asked is not None and order.status == OrderStatus.CANCELLING:
        is_whole = event is OrderEvent.UNDO_SETTLED
        uow.apply(cancellations.FINISH if is_whole else cancellations.FINISH_PARTLY, cancellation_id=asked.id)
    return settled


def _settle_idle(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Cancel what nobody will ever start: of an order that is being cancelled, or behind a step that was lost."""
    if order.status == OrderStatus.CANCELLING:
        idle, reason = [step for step in rows if step.status not in steps.FINAL], cancelling.ORDER_CANCELLED
    else:
        idle, reason = _behind_lost(uow, rows), PREDECESSOR_LOST
    if not idle:
        return rows
    held = uow.connection.execute(
        select(*STEP.c)
        .where(STEP.c.tenant_id == uow.tenant_id, STEP.c.id.in_([step.id for step in idle]))
        .order_by(STEP.c.id)
        .with_for_update(key_share=True)
    )
    cancelling.withdraw_steps(uow, held.all(), reason)
    return _steps(uow, order.id)


def _behind_lost(uow: UnitOfWork, rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    lost = {step.id for step in rows if step.status in steps.FINAL - set(DONE)}
    waiting = {step.id: step for step in rows if step.status == StepStatus.PENDING}
    if not lost or not waiting:
        return []
    links = _links(uow, set(waiting))
    while more := {step_id for step_id, before in links if before in lost} - lost:
        lost |= more
    return [step for step_id, step in waiting.items() if step_id in lost]


def _undo(uow: UnitOfWork, order_id: UUID, rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Plan what undoes the order, once everything is known: no step open, no cancellation unanswered, no contradiction in question."""
    fulfilling = [step for step in rows if step.kind == "FULFILL"]
    if any(step.status not in steps.FINAL for step in fulfilling):
        return rows
    gone, planned = compensating.reversed_steps(uow, order_id), compensating.undo_steps(rows)
    done = [step for step in fulfilling if step.status == StepStatus.COMPLETED and step.compensable]
    missing = [step for step in done if step.id not in gone and step.id not in planned]
    if not missing:
        return rows
    compensating.plan_undo(uow, missing)
    return _steps(uow, order_id)


def _is_unclear(uow: UnitOfWork, order_id: UUID) -> bool:
    query = select(IS_UNCLEAR).select_from(SalesOrder).filter_by(tenant_id=uow.tenant_id, id=order_id)
    return bool(uow.connection.execute(query).scalar_one())


def _verify_cases(uow: UnitOfWork, order_id: UUID, rows: Sequence[Row[Any]]) -> None:
    """Close the cases whose step is through: what was done about them has proven right."""
    settled = {step.id for step in rows if step.status in steps.FINAL}
    for case in triaging.resolved_cases(uow, order_id):
        if case.step_id in settled or (case.step_id is None and rows):
            triaging.verify(uow, case)


def _steps(uow: UnitOfWork, order_id: UUID) -> Sequence[Row[Any]]:
    query = select(*STEP.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id)
    return uow.connection.execute(query.order_by(STEP.c.created_at, STEP.c.step_code)).all()


def _announce_ready(uow: UnitOfWork, order_id: UUID) -> None:
    ready = (
        update(STEP)
        .filter_by(tenant_id=uow.tenant_id, order_id=order_id, status=StepStatus.PENDING, ready_at=None)
        .where(~HAS_OPEN_PREDECESSOR)
        .values(ready_at=func.clock_timestamp())
        .returning(STEP.c.id)
    )
    for row in uow.connection.execute(ready):
        _tell_ready(uow, row.id)


def _tell_ready(uow: UnitOfWork, step_id: UUID) -> None:
    messages.FULFILLMENT_STEP_READY.correlate(uow, steps.business_key(uow.tenant_id, step_id))


def _tell(uow: UnitOfWork, order: Row[Any]) -> None:
    """Wake the order's process where it waits for its cancellation to go on."""
    messages.ORDER_RESUMED.correlate(uow, orders.business_key(uow.tenant_id, order.id))
