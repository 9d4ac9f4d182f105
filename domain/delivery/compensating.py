"""Undoing: an undo step undoes the effect of one completed step; it is planned here and carried out like any other.

The domain plans undo steps, not BPMN compensation: the engine sees only the activities that it completed itself. A step has at most one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, select, update

from domain.delivery import troubles
from domain.delivery.contradictions import CONTRADICTION, StepContradiction, Verdict
from domain.delivery.orders import OrderStatus, SalesOrder
from domain.delivery.steps import DEPENDENCY, STEP, FulfillmentStep, StepEvent, StepKind, StepStatus
from domain.errors import AlreadyExists
from domain.fallout import triaging
from domain.store import UnitOfWork
from domain.workflows import starts
from domain.workflows.keys import Kind, key_of

WORKFLOW = "late-compensation"
UNWANTED = (OrderStatus.CANCELLING, OrderStatus.CANCELLED)


def plan_undo(uow: UnitOfWork, done: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Plan an undo step for each of these steps, in reverse order: a step is undone after all those that depend on it.

    Steps that have an undo step already are left out. The order's row must be locked.
    """
    planned = {step.id: new for step in done if (new := _add(uow, step, after=_dependents(uow, step.id, done))) is not None}
    links = [
        {"tenant_id": uow.tenant_id, "step_id": planned[step.id].id, "depends_on_step_id": planned[other].id}
        for step in done
        if step.id in planned
        for other in _dependents(uow, step.id, done)
        if other in planned
    ]
    if links:
        uow.connection.execute(DEPENDENCY.insert(), links)
    return list(planned.values())


def _add(uow: UnitOfWork, step: Row[Any], after: Collection[UUID] = ()) -> Row[Any] | None:
    copied = (
        "plan_id",
        "order_id",
        "line_id",
        "step_code",
        "provider_name",
        "idempotent",
        "has_lookup",
        "cancellable",
        "key_window_seconds",
    )
    now = uow.connection.scalar(select(func.clock_timestamp()))
    try:
        return uow.create(
            FulfillmentStep,
            reason="PLAN_UNDO",
            id=uuid4(),
            status=StepStatus.PENDING,
            kind=StepKind.COMPENSATE,
            compensates_step_id=step.id,
            compensable=False,
            is_ponr=False,
            ready_at=None if after else now,
            **{name: getattr(step, name) for name in copied},
        )
    except AlreadyExists:
        return None


def _dependents(uow: UnitOfWork, step_id: UUID, among: Sequence[Row[Any]]) -> set[UUID]:
    """The steps among these that depend on a step, directly or through others."""
    direct = select(DEPENDENCY.c.step_id).filter_by(tenant_id=uow.tenant_id, depends_on_step_id=step_id).cte(recursive=True)
    further = select(DEPENDENCY.c.step_id).join(direct, DEPENDENCY.c.depends_on_step_id == direct.c.step_id)
    later = direct.union(further.where(DEPENDENCY.c.tenant_id == uow.tenant_id))
    return set(uow.connection.scalars(select(later.c.step_id))) & {step.id for step in among}


def undo_late(uow: UnitOfWork, step: Row[Any]) -> Row[Any] | None:
    """Undo one effect outside of an order's cancellation, by a process of its own; None if the step has an undo step already."""
    undo = _add(uow, step)
    if undo is not None:
        starts.begin(
            uow,
            starts.BeginWorkflow(
                workflow_name=WORKFLOW,
                aggregate_type="fulfillment_step",
                aggregate_id=undo.id,
                business_key=key_of(Kind.UNDO_STEP, uow.tenant_id, undo.id),
                variables={"order_id": undo.order_id, "step_id": undo.id, "step_code": undo.step_code},
            ),
        )
    return undo


def settle_contradiction(uow: UnitOfWork, contradiction_id: UUID, *, in_effect: bool) -> bool:
    """Record the verdict of the provider's ledger: undo an effect that must not be there; open a case for one that must be and is not.

    Returns False if the contradiction has been settled in the meantime.
    """
    order, step = _lock(uow, contradiction_id)
    contradiction = _record_verdict(uow, contradiction_id, Verdict.IN_EFFECT if in_effect else Verdict.REVERSED)
    if contradiction is not None:
        _act_on(uow, order, step, contradiction)
    return contradiction is not None


def leave_to_a_person(uow: UnitOfWork, contradiction_id: UUID) -> bool:
    """Open a case: the provider cannot tell which of the two facts holds. Returns False if that has been settled in the meantime."""
    _, step = _lock(uow, contradiction_id)
    contradiction = _record_verdict(uow, contradiction_id, Verdict.LEFT_TO_A_PERSON)
    if contradiction is not None:
        detail = f"{step.provider_name} says {contradiction.said} of {step.step_code}, which was {contradiction.known}, and cannot be asked."
        _open_case(uow, step, contradiction, detail)
    return contradiction is not None


def _lock(uow: UnitOfWork, contradiction_id: UUID) -> tuple[Row[Any], Row[Any]]:
    step_id = uow.read(StepContradiction, contradiction_id).step_id
    order = uow.read(SalesOrder, uow.read(FulfillmentStep, step_id).order_id, lock=True)
    return order, uow.read(FulfillmentStep, step_id, lock=True)


def _record_verdict(uow: UnitOfWork, contradiction_id: UUID, verdict: Verdict) -> Row[Any] | None:
    unsettled = update(CONTRADICTION).filter_by(tenant_id=uow.tenant_id, id=contradiction_id, answer=None)
    settled = unsettled.values(answer=verdict, answered_at=func.clock_timestamp()).returning(*CONTRADICTION.c)
    return uow.connection.execute(settled).one_or_none()


def _act_on(uow: UnitOfWork, order: Row[Any], step: Row[Any], contradiction: Row[Any]) -> None:
    is_there = contradiction.answer == Verdict.IN_EFFECT
    is_completed = step.status == StepStatus.COMPLETED
    is_wanted = is_completed and order.status not in UNWANTED
    if is_there == is_wanted:
        return
    if is_there and is_completed and order.status == OrderStatus.CANCELLING:
        return  # undone with the other steps of the order
    if is_there and step.compensable:
        undo_late(uow, step)
        return
    _open_case(uow, step, contradiction, _detail(step, is_there=is_there))


def _open_case(uow: UnitOfWork, step: Row[Any], contradiction: Row[Any], detail: str) -> None:
    evidence = {"known": contradiction.known, "answer": contradiction.answer}
    triaging.open_case(uow, troubles.of_contradiction(step, StepEvent(contradiction.said), detail, evidence))


def _detail(step: Row[Any], *, is_there: bool) -> str:
    if is_there:
        return f"{step.step_code} is {step.status}, but its effect is there and cannot be undone by {step.provider_name}."
    return f"{step.step_code} is {step.status}, but {step.provider_name} has taken its effect back."


def reversed_steps(uow: UnitOfWork, order_id: UUID) -> set[UUID]:
    """Steps whose effect the provider itself has taken back."""
    return {row.step_id for row in contradictions_of(uow, order_id) if row.answer == Verdict.REVERSED}


def contradictions_of(uow: UnitOfWork, order_id: UUID) -> Sequence[Row[Any]]:
    """The contradictions about the steps of an order, oldest first."""
    query = select(*CONTRADICTION.c).join(
        STEP, (STEP.c.tenant_id == CONTRADICTION.c.tenant_id) & (STEP.c.id == CONTRADICTION.c.step_id)
    )
    mine = query.where(CONTRADICTION.c.tenant_id == uow.tenant_id, STEP.c.order_id == order_id)
    return uow.connection.execute(mine.order_by(CONTRADICTION.c.created_at)).all()


def undo_steps(rows: Sequence[Row[Any]]) -> Mapping[UUID, Row[Any]]:
    """Step -> the step that undoes it, among these steps of an order."""
    return {row.compensates_step_id: row for row in rows if row.kind == StepKind.COMPENSATE}
