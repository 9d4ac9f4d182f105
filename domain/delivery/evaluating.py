"""Evaluating an order: which steps have become ready, whether it is blocked, what must be undone, and whether it has come to its end.

Runs in a transaction of its own, after the step's: otherwise two last steps that end together would each see the other as open. Every
path comes here: the worker, the callback, the last task of the process, a person's decision, reconciliation
(docs/domain.md#orders-and-evaluation).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select, update

from domain import messages
from domain.delivery import cancellations, cancelling, compensating, orders, steps, troubles
from domain.delivery.order_moves import BLOCK, IS_UNCLEAR, OUTCOMES, UNBLOCK
from domain.delivery.orders import FINAL, OrderEvent, OrderStatus, SalesOrder
from domain.delivery.step_moves import HAS_OPEN_PREDECESSOR
from domain.delivery.steps import DEPENDENCY, DONE, STEP, StepKind, StepStatus
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.store import UnitOfWork

PREDECESSOR_LOST = "PREDECESSOR_LOST"
NO_PLAN_NEEDED = "THE_ORDER_HAS_ENDED"


def evaluate(uow: UnitOfWork, order_id: UUID, *, tells: bool = True) -> str:
    """Bring the order to the status that its steps have reached; returns that status.

    `tells` False: the order's own process calls, and needs no message about the result.
    """
    order = uow.read(SalesOrder, order_id, lock=True)
    if order.status in FINAL:
        rows = steps.of_order(uow, order_id)
        _verify_cases(uow, order_id, rows)
        return _ended(uow, order, rows)
    _announce_ready(uow, order_id)
    rows = _settle_idle(uow, order, steps.of_order(uow, order_id))
    known = len(rows)
    # Read once: a reply between two reads would make the order final with nothing undone.
    is_clear = order.status == OrderStatus.CANCELLING and not _is_unclear(uow, order_id)
    if is_clear:
        rows = _undo(uow, order_id, rows)
    _verify_cases(uow, order_id, rows)
    event = _event(uow, order, rows, is_clear=is_clear)
    if tells and order.status == OrderStatus.CANCELLING and (event is not None or len(rows) > known):
        messages.ORDER_RESUMED.correlate(uow, orders.business_key(uow.tenant_id, order.id))
    return _ended(uow, _apply(uow, order, event, rows), rows) if event is not None else str(order.status)


def _ended(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]]) -> str:
    """Return the status of an order. One that has ended without steps needs no plan, so the case about its plan closes."""
    if order.status in FINAL and not rows:
        triaging.close(uow, troubles.key_of_failed_decomposition(order.id), NO_PLAN_NEEDED)
    return str(order.status)


def _event(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]], *, is_clear: bool) -> OrderEvent | None:
    is_final = all(step.status in steps.FINAL for step in rows)
    if order.status == OrderStatus.CANCELLING:
        return _undo_event(uow, order, rows) if is_final and is_clear else None
    if not rows or order.status == OrderStatus.CREATED:
        return None
    fulfilling = [step.status for step in rows if step.kind == StepKind.FULFILL]
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
    left = [step for step in rows if step.kind == StepKind.FULFILL and step.status == StepStatus.COMPLETED]
    return OrderEvent.UNDO_SETTLED if {step.id for step in left} <= gone | undone else OrderEvent.UNDO_INCOMPLETE


def is_blocked(uow: UnitOfWork, rows: Sequence[Row[Any]]) -> bool:
    """Whether no step of an order can go on: one is HELD, and every other one is final or waits for one that is HELD."""
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
    request = cancelling.open_request(uow, order.id)
    if request is not None and order.status == OrderStatus.CANCEL_REQUESTED:
        cancelling.decline(uow, request, cancelling.POLICY, "TOO_LATE")
    settled = uow.apply(OUTCOMES[event], order_id=order.id)
    if request is not None and order.status == OrderStatus.CANCELLING:
        is_whole = event is OrderEvent.UNDO_SETTLED
        uow.apply(cancellations.FINISH if is_whole else cancellations.FINISH_PARTLY, cancellation_id=request.id)
    return settled


def _settle_idle(uow: UnitOfWork, order: Row[Any], rows: Sequence[Row[Any]]) -> Sequence[Row[Any]]:
    """Cancel steps that nothing will start: the order is being cancelled, or a step before them has ended without being done.

    What was built on a step stays when its undo fails, so the undo of the step is not started either.
    """
    reasons = dict.fromkeys((step.id for step in _behind_lost(uow, rows)), PREDECESSOR_LOST)
    if order.status == OrderStatus.CANCELLING:
        unwanted = (step.id for step in rows if step.kind == StepKind.FULFILL and step.status not in steps.FINAL)
        reasons |= dict.fromkeys(unwanted, cancelling.ORDER_CANCELLED)
    if not reasons:
        return rows
    cancelling.withdraw_steps(uow, steps.of_order(uow, order.id, STEP.c.id.in_(reasons), lock=True), reasons)
    return steps.of_order(uow, order.id)


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
    """Plan the undo steps of the order, once its steps are final; the caller has made sure that nothing about them is unclear."""
    fulfilling = [step for step in rows if step.kind == StepKind.FULFILL]
    if any(step.status not in steps.FINAL for step in fulfilling):
        return rows
    gone, planned = compensating.reversed_steps(uow, order_id), compensating.undo_steps(rows)
    done = [step for step in fulfilling if step.status == StepStatus.COMPLETED and step.compensable]
    missing = [step for step in done if step.id not in gone and step.id not in planned]
    if not missing:
        return rows
    compensating.plan_undo(uow, missing)
    return steps.of_order(uow, order_id)


def _is_unclear(uow: UnitOfWork, order_id: UUID) -> bool:
    query = select(IS_UNCLEAR).select_from(SalesOrder).filter_by(tenant_id=uow.tenant_id, id=order_id)
    return bool(uow.connection.execute(query).scalar_one())


def _verify_cases(uow: UnitOfWork, order_id: UUID, rows: Sequence[Row[Any]]) -> None:
    """Close the resolved cases whose step is final: that proves their resolution. The case of a process is proven by its process."""
    settled = {step.id for step in rows if step.status in steps.FINAL}
    for case in triaging.resolved_cases(uow, order_id):
        if case.step_id in settled or (case.type == FalloutType.DECOMPOSITION_FAILED and rows):
            triaging.verify(uow, case)


def _announce_ready(uow: UnitOfWork, order_id: UUID) -> None:
    ready = (
        update(STEP)
        .filter_by(tenant_id=uow.tenant_id, order_id=order_id, status=StepStatus.PENDING, ready_at=None)
        .where(~HAS_OPEN_PREDECESSOR)
        .values(ready_at=func.clock_timestamp())
        .returning(STEP.c.id)
    )
    for row in uow.connection.execute(ready):
        _notify_ready(uow, row.id)


def _notify_ready(uow: UnitOfWork, step_id: UUID) -> None:
    messages.FULFILLMENT_STEP_READY.correlate(uow, steps.business_key(uow.tenant_id, step_id))
