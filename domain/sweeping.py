"""What reconciliation looks for: queries across tenants for what did not settle by itself. They only read, and lock nothing.

Each is answered from a partial index over what is unsettled, so a sweep costs what is wrong and not what there is. What a row says is an
inference from its version: whoever acts on it names that version.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, exists, func, or_, select, true

from domain import fallouts, steps
from domain.fallouts import FalloutCase, FalloutStatus
from domain.order_moves import IS_UNCLEAR
from domain.orders import FINAL as ORDER_FINAL
from domain.orders import UNSETTLED, OrderStatus, SalesOrder
from domain.projections import INBOX
from domain.quotes import EXPIRING, Quote
from domain.step_moves import HAS_OPEN_PREDECESSOR, STEP
from domain.steps import StepStatus
from domain.store import is_one_of, table_of
from domain.store.facts import TOPICS, OutboxEvent, OutboxStatus, WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows import COMMAND, CORRELATION, CorrelationStatus

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
START_IS_QUEUED = exists(
    select(COMMAND.c.id).where(
        COMMAND.c.tenant_id == CORRELATION.c.tenant_id,
        COMMAND.c.business_key == CORRELATION.c.business_key,
        COMMAND.c.kind == WorkflowCommandKind.START,
        COMMAND.c.status == WorkflowCommandStatus.PENDING,
    )
)


def unresolved_starts(connection: Connection, limit: int, safe_interval: timedelta) -> list[Row[Any]]:
    """Starts to look into now: START_UNKNOWN when due, and REQUESTED for longer than `safe_interval`.

    `age` is the time in that state (for START_UNKNOWN: since its answer was given up), `is_safe` whether it exceeds `safe_interval`,
    `start_is_queued` whether the dispatcher still has the request.
    """
    c = CORRELATION.c
    query = (
        select(*c, (NOW - c.updated_at).label("age"), (c.updated_at < NOW - safe_interval).label("is_safe"))
        .add_columns(START_IS_QUEUED.label("start_is_queued"))
        .where(is_one_of(c.status, CorrelationStatus.REQUESTED, CorrelationStatus.START_UNKNOWN), c.next_check_at <= NOW)
        .where(or_(c.status == CorrelationStatus.START_UNKNOWN, c.updated_at < NOW - safe_interval))
        .order_by(c.next_check_at)
        .limit(limit)
    )
    return list(connection.execute(query))


def unknown_starts(connection: Connection) -> int:
    """How many starts are START_UNKNOWN."""
    c = CORRELATION.c
    unresolved = is_one_of(c.status, CorrelationStatus.REQUESTED, CorrelationStatus.START_UNKNOWN)
    query = select(func.count()).select_from(CORRELATION).where(unresolved, c.status == CorrelationStatus.START_UNKNOWN)
    return int(connection.execute(query).scalar_one())


def unevaluated_orders(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Orders whose steps are all final and clear, or of which a ready step was not told, for longer than `grace`."""
    query = _needing_evaluation().where(STEPS_OF_ORDER.c.last_change < NOW - grace).order_by(ORDER.c.updated_at)
    return list(connection.execute(query.limit(limit)))


def needs_evaluation(connection: Connection, tenant_id: UUID, order_id: UUID) -> bool:
    """The same question about one order; certain when the order is locked."""
    query = _needing_evaluation().where(ORDER.c.tenant_id == tenant_id, ORDER.c.id == order_id)
    return connection.execute(query).one_or_none() is not None


def expired_quotes(connection: Connection, limit: int) -> list[Row[Any]]:
    """Quotes whose end has passed and that nobody closed yet, the longest first."""
    query = select(*QUOTE.c).where(is_one_of(QUOTE.c.status, *EXPIRING), QUOTE.c.valid_until <= NOW)
    return list(connection.execute(query.order_by(QUOTE.c.valid_until).limit(limit)))


def expired_claims(connection: Connection, limit: int) -> list[Row[Any]]:
    """Cases whose owner's lease has run out, the longest first."""
    query = select(*CASE.c).where(CASE.c.status == FalloutStatus.IN_PROGRESS, CASE.c.claim_expires_at <= NOW)
    return list(connection.execute(query.order_by(CASE.c.claim_expires_at).limit(limit)))


def held_without_case(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Steps that are HELD for longer than `grace`, and of which nobody was told by a case that is still open."""
    has_case = exists(
        select(CASE.c.id).where(
            CASE.c.tenant_id == STEP.c.tenant_id, CASE.c.step_id == STEP.c.id, ~is_one_of(CASE.c.status, *fallouts.ENDED)
        )
    )
    query = select(*STEP.c).where(STEP.c.status == StepStatus.HELD, STEP.c.updated_at < NOW - grace, ~has_case)
    return list(connection.execute(query.order_by(STEP.c.updated_at).limit(limit)))


def cases_of_processes(connection: Connection, process_instance_ids: Collection[str]) -> list[Row[Any]]:
    """The unresolved cases of these processes; without those whose task is about to be given to somebody, or taken from them."""
    is_on_its_way = exists(
        select(COMMAND.c.id).where(
            COMMAND.c.tenant_id == CORRELATION.c.tenant_id,
            COMMAND.c.business_key == CORRELATION.c.business_key,
            COMMAND.c.kind == WorkflowCommandKind.ASSIGN_TASK,
            COMMAND.c.status == WorkflowCommandStatus.PENDING,
        )
    )
    query = (
        select(*CASE.c, CORRELATION.c.process_instance_id)
        .join(CORRELATION, and_(CORRELATION.c.tenant_id == CASE.c.tenant_id, CORRELATION.c.aggregate_id == CASE.c.id))
        .where(CORRELATION.c.process_instance_id.in_(list(process_instance_ids)), ~is_on_its_way)
        .where(is_one_of(CASE.c.status, *fallouts.UNRESOLVED))
    )
    return list(connection.execute(query))


def _needing_evaluation() -> Select[Any]:
    return (
        select(*ORDER.c)
        .join(STEPS_OF_ORDER, true())
        .where(is_one_of(ORDER.c.status, *UNSETTLED))
        .where((STEPS_OF_ORDER.c.all_final & ~AWAITS_ANSWERS) | STEPS_OF_ORDER.c.one_untold)
    )


def open_work(connection: Connection, tenant_id: UUID) -> dict[str, int]:
    """Count what is still on its way for one tenant: nothing left means that it is quiet."""
    step, order, event = STEP, ORDER, table_of(OutboxEvent)
    waiting = {
        "workflow_commands": (COMMAND, COMMAND.c.status == WorkflowCommandStatus.PENDING),
        "starts": (CORRELATION, is_one_of(CORRELATION.c.status, CorrelationStatus.REQUESTED, CorrelationStatus.START_UNKNOWN)),
        "steps": (step, is_one_of(step.c.status, StepStatus.IN_PROGRESS, StepStatus.UNKNOWN, StepStatus.RETRYABLE)),
        "orders": (order, ~is_one_of(order.c.status, *ORDER_FINAL)),
        "events": (event, event.c.status == OutboxStatus.PENDING),
        "unread_events": (
            event,
            (event.c.topic == TOPICS["sales_order"]) & ~exists(select(INBOX.c.event_id).where(INBOX.c.event_id == event.c.id)),
        ),
    }
    counts = [
        select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id, condition).scalar_subquery().label(name)
        for name, (table, condition) in waiting.items()
    ]
    return {name: int(count) for name, count in connection.execute(select(*counts)).one()._mapping.items()}
