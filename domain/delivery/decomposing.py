"""Decomposition: from the lines of an order to the steps that deliver them. The same order and catalog give the same plan.

An order that the catalog cannot deliver becomes REJECTED. If the catalog itself is wrong, the order is HELD until a person has acted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, select

from domain.catalog import CATALOG, Catalog, StepSpecification
from domain.delivery import steps, troubles
from domain.delivery.order_moves import BLOCK, UNBLOCK
from domain.delivery.orders import ORDER_MATRIX, OrderEvent, OrderNotRunning, OrderStatus, SalesOrder, SalesOrderLine
from domain.delivery.steps import DEPENDENCY, STEP, FulfillmentPlan, FulfillmentStep, StepKind, StepStatus
from domain.fallout import triaging
from domain.store import Move, UnitOfWork, table_of
from domain.store.idempotency import request_hash

SUBMIT = Move(SalesOrder, ORDER_MATRIX, OrderEvent.SUBMIT, emits="OrderSubmitted")
REJECT = Move(SalesOrder, ORDER_MATRIX, OrderEvent.VALIDATION_FAILED, emits="OrderRejected")
PLAN_READY = Move(SalesOrder, ORDER_MATRIX, OrderEvent.PLAN_READY, emits="OrderStarted")

LINE = table_of(SalesOrderLine)
FIRST_PLAN = 1
PROMISES = ("idempotent", "has_lookup", "cancellable", "key_window_seconds")
"""What a provider promises, by the catalog; each step keeps the promises of its time."""
NOT_WANTED = (OrderStatus.CANCELLED, OrderStatus.CANCELLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step of the plan, before it has a row."""

    id: UUID
    specification: StepSpecification
    line_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Decomposition:
    """The steps of an order, or why it has none: it never can have any (`rejection`), or not before a person acts (`failure`)."""

    steps: Sequence[Row[Any]] = ()
    rejection: str | None = None
    failure: str | None = None


def decompose(uow: UnitOfWork, order_id: UUID, catalog: Catalog = CATALOG) -> Decomposition:
    """Plan an order once; a repeat finds the plan. An order that the catalog cannot deliver becomes REJECTED.

    An order that is cancelled already gets no steps. One is HELD, with a case (`failure`), if the steps of the catalog cannot be planned.
    Raises OrderNotRunning while a cancellation is being assessed.
    """
    order = uow.read(SalesOrder, order_id, lock=True)
    planned = _planned_steps(uow, order_id)
    if planned or order.status in NOT_WANTED:
        uow.summary.repeat("sales_order", order)
        return Decomposition(steps=planned)
    if order.status == OrderStatus.CANCEL_REQUESTED:
        raise OrderNotRunning.about(order)
    lines = uow.connection.execute(
        select(*LINE.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id).order_by(LINE.c.line_no)
    ).all()
    unknown = [line.product_offering_id for line in lines if line.product_offering_id not in catalog.offerings]
    if unknown or not lines:
        rejection = f"The catalog has no offering {unknown[0]}." if unknown else "The order has no line."
        if order.status != OrderStatus.REJECTED:
            uow.apply(REJECT, order_id=order_id)
        return Decomposition(rejection=rejection)
    if order.status == OrderStatus.CREATED:
        order = uow.apply(SUBMIT, order_id=order_id)
    failure = fault_of(catalog)
    if failure:
        return _hold_order(uow, order, failure)
    if order.status != OrderStatus.IN_PROGRESS:
        uow.apply(UNBLOCK if order.status == OrderStatus.HELD else PLAN_READY, order_id=order_id)
    _write(uow, order_id, lines, catalog)
    return Decomposition(steps=_planned_steps(uow, order_id))


def _planned_steps(uow: UnitOfWork, order_id: UUID) -> Sequence[Row[Any]]:
    # Undo steps belong to the cancellation of the order, or to a process of their own.
    return steps.of_order(uow, order_id, STEP.c.kind == StepKind.FULFILL)


def fault_of(catalog: Catalog) -> str | None:
    """What is wrong with the steps of a catalog, in a sentence: an unknown provider, or steps that wait for each other."""
    unknown = sorted({step.provider_name for step in catalog.steps} - set(catalog.providers))
    if unknown:
        return f"The catalog has no provider {unknown[0]}."
    try:
        TopologicalSorter({step.step_code: step.after for step in catalog.steps}).prepare()
    except CycleError as error:
        return f"These steps wait for each other: {' -> '.join(error.args[1])}."
    return None


def _hold_order(uow: UnitOfWork, order: Row[Any], failure: str) -> Decomposition:
    if order.status != OrderStatus.HELD:
        uow.apply(BLOCK, order_id=order.id, hold_reason=failure)
    triaging.open_case(uow, troubles.of_failed_decomposition(order.id, failure))
    return Decomposition(failure=failure)


def _write(uow: UnitOfWork, order_id: UUID, lines: Sequence[Row[Any]], catalog: Catalog) -> None:
    content = [[line.line_no, line.product_offering_id, line.action, line.quantity] for line in lines]
    [plan_id] = uow.add(
        FulfillmentPlan,
        {
            "order_id": order_id,
            "plan_no": FIRST_PLAN,
            "decomposition_hash": request_hash({"lines": content, "catalogVersion": catalog.catalog_version}),
            "catalog_version": catalog.catalog_version,
        },
    )
    plan = list(_planned(lines, catalog))
    dependencies = [
        {"tenant_id": uow.tenant_id, "step_id": step.id, "depends_on_step_id": other.id}
        for step in plan
        for other in plan
        if other.specification.step_code in step.specification.after
    ]
    waiting = {dependency["step_id"] for dependency in dependencies}
    now = uow.connection.scalar(select(func.clock_timestamp()))
    for step in plan:
        spec = step.specification
        uow.create(
            FulfillmentStep,
            reason="PLAN",
            id=step.id,
            status=StepStatus.PENDING,
            plan_id=plan_id,
            order_id=order_id,
            line_id=step.line_id,
            step_code=spec.step_code,
            kind=StepKind.FULFILL,
            provider_name=spec.provider_name,
            compensable=spec.compensable,
            is_ponr=spec.is_ponr,
            **{name: getattr(catalog.providers[spec.provider_name], name) for name in PROMISES},
            ready_at=None if step.id in waiting else now,
        )
    if dependencies:
        uow.connection.execute(DEPENDENCY.insert(), dependencies)


def _planned(lines: Sequence[Row[Any]], catalog: Catalog) -> Iterator[PlannedStep]:
    for specification in catalog.steps:
        wanted = [line for line in lines if line.product_offering_id == specification.offering]
        # A step for the whole order belongs to its first line.
        for line in wanted if specification.offering else lines[:1]:
            yield PlannedStep(id=uuid4(), specification=specification, line_id=line.id)
