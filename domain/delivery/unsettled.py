"""Orders and steps that did not settle by themselves: queries across tenants for reconciliation. They only read, and lock nothing.

A partial index over unsettled rows answers each, in turns between tenants and without what a reconciler has leased. So the cost of a sweep
grows with what is wrong, not with what there is. A row is an inference from its version: a repair names that version.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, or_, select, true

from domain.delivery import steps, troubles
from domain.delivery.order_moves import IS_UNCLEAR
from domain.delivery.orders import ORDER, UNSETTLED, OrderStatus
from domain.delivery.step_moves import ATTEMPT_LIVE, HAS_LOST_PREDECESSOR, HAS_OPEN_PREDECESSOR
from domain.delivery.steps import STEP, StepKind, StepStatus
from domain.fallout import cases
from domain.fallout.triaging import CASE
from domain.store import is_one_of, sql_list
from domain.store.claims import Groups, fairly
from domain.store.leases import is_free

NOW = func.clock_timestamp()

# Lateral, so that it is evaluated order by order: with EXISTS the planner may read every step there is.
STEPS_OF_ORDER = (
    select(
        func.bool_and(STEP.c.status.in_(steps.FINAL)).label("all_final"),
        func.bool_or(and_(STEP.c.status == StepStatus.PENDING, STEP.c.ready_at.is_(None), ~HAS_OPEN_PREDECESSOR)).label(
            "one_unannounced"
        ),
        func.bool_or(STEP.c.status == StepStatus.HELD).label("one_held"),
        func.bool_and(STEP.c.status.in_((*steps.FINAL, StepStatus.HELD, StepStatus.PENDING))).label("none_under_way"),
        func.max(STEP.c.updated_at).label("last_change"),
    )
    .where(STEP.c.tenant_id == ORDER.c.tenant_id, STEP.c.order_id == ORDER.c.id)
    .correlate(ORDER)
    .lateral("steps_of_order")
)
# An order that is being cancelled waits until nothing about its steps is unclear; others end by what is known.
IS_CANCELLING = ORDER.c.status == OrderStatus.CANCELLING
IS_STILL_UNCLEAR = and_(IS_CANCELLING, IS_UNCLEAR)


def _has_step(*conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    of_order = (STEP.c.tenant_id == ORDER.c.tenant_id, STEP.c.order_id == ORDER.c.id)
    return exists(select(STEP.c.id).where(*of_order, *conditions).correlate(ORDER))


# What an evaluation would do to the steps of an order: `domain.delivery.evaluating` has the same rules.
CAN_GO_ON = _has_step(STEP.c.status == StepStatus.PENDING, ~HAS_OPEN_PREDECESSOR)
IS_BLOCKED = and_(STEPS_OF_ORDER.c.one_held, STEPS_OF_ORDER.c.none_under_way, ~CAN_GO_ON)
WAITS_IN_VAIN = _has_step(STEP.c.kind == StepKind.FULFILL, STEP.c.status == StepStatus.PENDING, HAS_LOST_PREDECESSOR)
IS_IDLE = _has_step(
    STEP.c.kind == StepKind.FULFILL,
    is_one_of(STEP.c.status, StepStatus.PENDING, StepStatus.RETRYABLE, StepStatus.HELD),
    ~ATTEMPT_LIVE,
)


def unevaluated_orders(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Orders that still have to be evaluated after a change of their steps, `grace` or longer ago.

    An evaluation would end them, hold them or let them go on, announce a step, or cancel a step that nothing will start.
    """
    query = _needing_evaluation().where(STEPS_OF_ORDER.c.last_change < NOW - grace, is_free("order", ORDER))
    groups = Groups(by=(ORDER.c.tenant_id,), among=f"status IN {sql_list(UNSETTLED)}")
    return list(connection.execute(select(fairly(query, groups, ORDER.c.updated_at, limit))))


def needs_evaluation(connection: Connection, tenant_id: UUID, order_id: UUID) -> bool:
    """Whether one order is among them, without `grace`; reliable if the order is locked."""
    query = _needing_evaluation().where(ORDER.c.tenant_id == tenant_id, ORDER.c.id == order_id)
    return connection.execute(query).one_or_none() is not None


def held_without_case(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Steps that have been HELD for longer than `grace` and have no case that a person has to resolve."""
    has_case = exists(
        select(CASE.c.id).where(
            CASE.c.tenant_id == STEP.c.tenant_id,
            CASE.c.dedupe_key == func.concat(troubles.OF_HELD_STEP, STEP.c.id),
            is_one_of(CASE.c.status, *cases.UNRESOLVED),
        )
    )
    query = select(*STEP.c).where(STEP.c.updated_at < NOW - grace, ~has_case, is_free("held step", STEP))
    groups = Groups(by=(STEP.c.tenant_id,), among="status = 'HELD'")
    return list(connection.execute(select(fairly(query, groups, STEP.c.updated_at, limit))))


def _needing_evaluation() -> Select[Any]:
    return (
        select(*ORDER.c)
        .select_from(ORDER.join(STEPS_OF_ORDER, true()))
        .where(is_one_of(ORDER.c.status, *UNSETTLED))
        .where(
            or_(
                STEPS_OF_ORDER.c.all_final & ~IS_STILL_UNCLEAR,
                STEPS_OF_ORDER.c.one_unannounced,
                and_(ORDER.c.status == OrderStatus.IN_PROGRESS, IS_BLOCKED),
                and_(ORDER.c.status == OrderStatus.HELD, ~IS_BLOCKED),
                and_(~IS_CANCELLING, WAITS_IN_VAIN),
                and_(IS_CANCELLING, IS_IDLE),
            )
        )
    )
