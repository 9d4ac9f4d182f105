"""What reconciliation looks for: queries across tenants for what did not settle by itself. They only read, and lock nothing.

Each is answered from a partial index over what is unsettled, so a sweep costs what is wrong and not what there is. What a row says is an
inference from its version: whoever acts on it names that version.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, exists, func, select, true

from domain.delivery import steps
from domain.delivery.order_moves import IS_UNCLEAR
from domain.delivery.orders import UNSETTLED, OrderStatus, SalesOrder
from domain.delivery.step_moves import HAS_OPEN_PREDECESSOR, STEP
from domain.delivery.steps import StepStatus
from domain.fallout import cases
from domain.fallout.cases import FalloutCase
from domain.offers.quotes import Quote
from domain.store import is_one_of, table_of

ORDER, QUOTE, CASE = (table_of(entity) for entity in (SalesOrder, Quote, FalloutCase))
NOW = func.clock_timestamp()

# Looked up order by order: written as EXISTS the planner may read every step there is.
STEPS_OF_ORDER = (
    select(
        func.bool_and(STEP.c.status.in_(steps.FINAL)).label("all_final"),
        func.bool_or(and_(STEP.c.status == StepStatus.PENDING, STEP.c.ready_at.is_(None), ~HAS_OPEN_PREDECESSOR)).label(
            "one_untold"
        ),
        func.max(STEP.c.updated_at).label("last_change"),
    )
    .where(STEP.c.tenant_id == ORDER.c.tenant_id, STEP.c.order_id == ORDER.c.id)
    .correlate(ORDER)
    .lateral("steps_of_order")
)
# An order that is being cancelled waits until nothing is in question any more; others are settled by what is known.
AWAITS_ANSWERS = and_(ORDER.c.status == OrderStatus.CANCELLING, IS_UNCLEAR)


def unevaluated_orders(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Orders whose steps are all final and clear, or of which a ready step was not told, for longer than `grace`."""
    query = _needing_evaluation().where(STEPS_OF_ORDER.c.last_change < NOW - grace).order_by(ORDER.c.updated_at)
    return list(connection.execute(query.limit(limit)))


def needs_evaluation(connection: Connection, tenant_id: UUID, order_id: UUID) -> bool:
    """The same question about one order; certain when the order is locked."""
    query = _needing_evaluation().where(ORDER.c.tenant_id == tenant_id, ORDER.c.id == order_id)
    return connection.execute(query).one_or_none() is not None


def held_without_case(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Steps that are HELD for longer than `grace`, and of which nobody was told by a case that is still open."""
    has_case = exists(
        select(CASE.c.id).where(
            CASE.c.tenant_id == STEP.c.tenant_id, CASE.c.step_id == STEP.c.id, ~is_one_of(CASE.c.status, *cases.FINAL)
        )
    )
    query = select(*STEP.c).where(STEP.c.status == StepStatus.HELD, STEP.c.updated_at < NOW - grace, ~has_case)
    return list(connection.execute(query.order_by(STEP.c.updated_at).limit(limit)))


def _needing_evaluation() -> Select[Any]:
    return (
        select(*ORDER.c)
        .join(STEPS_OF_ORDER, true())
        .where(is_one_of(ORDER.c.status, *UNSETTLED))
        .where((STEPS_OF_ORDER.c.all_final & ~AWAITS_ANSWERS) | STEPS_OF_ORDER.c.one_untold)
    )
