"""What reconciliation looks for: queries across tenants for what did not settle by itself. They only read, and lock nothing.

Each is answered from a partial index over what is unsettled, so a sweep costs what is wrong and not what there is. What a row says is an
inference from its version: whoever acts on it names that version.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, or_, select, text, true

from domain import steps
from domain.contradictions import StepContradiction
from domain.orders import FINAL as ORDER_FINAL
from domain.orders import RUNNING, SalesOrder
from domain.projections import INBOX
from domain.quotes import EXPIRING, Quote
from domain.step_moves import ATTEMPT, HAS_OPEN_PREDECESSOR, STEP
from domain.steps import LIVE, LIVE_STATUSES, AttemptStatus, StepStatus
from domain.store import is_one_of, table_of
from domain.store.facts import TOPICS, OutboxEvent, OutboxStatus, WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows import COMMAND, CORRELATION, CorrelationStatus

ORDER, QUOTE, CONTRADICTION = table_of(SalesOrder), table_of(Quote), table_of(StepContradiction)
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


def silent_steps(connection: Connection, limit: int, stale_after: timedelta) -> list[Row[Any]]:
    """Steps whose request may have left, and whose worker has given no sign of life for `stale_after`."""
    query = _with_live_attempt().where(
        STEP.c.status == StepStatus.IN_PROGRESS, ATTEMPT.c.status == AttemptStatus.SENT, ATTEMPT.c.heartbeat_at < NOW - stale_after
    )
    return list(connection.execute(query.limit(limit)))


def unanswered_steps(connection: Connection, limit: int, overdue_after: timedelta, safe_interval: timedelta) -> list[Row[Any]]:
    """Steps to ask the provider about: UNKNOWN, and accepted ones whose callback is overdue.

    `is_safe` tells whether the request was sent more than `safe_interval` ago, so that "never seen" proves its absence.
    """
    is_overdue = and_(
        STEP.c.status == StepStatus.IN_PROGRESS,
        ATTEMPT.c.status == AttemptStatus.ACKNOWLEDGED,
        STEP.c.updated_at < NOW - overdue_after,
        ATTEMPT.c.heartbeat_at < NOW - overdue_after,
    )
    query = _with_live_attempt((ATTEMPT.c.sent_at < NOW - safe_interval).label("is_safe"))
    return list(connection.execute(query.where(or_(STEP.c.status == StepStatus.UNKNOWN, is_overdue)).limit(limit)))


def unanswered_cancellations(
    connection: Connection, limit: int, overdue_after: timedelta, safe_interval: timedelta
) -> list[Row[Any]]:
    """What was asked of a provider about a step that is to be cancelled, and was not answered for `overdue_after`: the cancellation itself,
    whatever became of its step, and the request that it is to stop. `command` tells which, `is_safe` as in `unanswered_steps`.
    """
    asked = or_(ATTEMPT.c.command == "CANCEL", STEP.c.status == StepStatus.CANCEL_REQUESTED)
    details = [ATTEMPT.c[name] for name in ("command", "idempotency_key", "worker_id", "sent_at", "heartbeat_at")]
    query = (
        select(*STEP.c, ATTEMPT.c.id.label("attempt_id"), ATTEMPT.c.status.label("attempt_status"), *details)
        .add_columns((ATTEMPT.c.sent_at < NOW - safe_interval).label("is_safe"))
        .join(ATTEMPT, and_(ATTEMPT.c.tenant_id == STEP.c.tenant_id, ATTEMPT.c.step_id == STEP.c.id))
        .where(text(f"provider_attempt.{LIVE}"), ATTEMPT.c.heartbeat_at < NOW - overdue_after, asked)
        .order_by(ATTEMPT.c.sent_at)
    )
    return list(connection.execute(query.limit(limit)))


def open_questions(connection: Connection, limit: int, safe_interval: timedelta) -> list[Row[Any]]:
    """Contradictions that the provider's ledger is to settle, oldest first. `is_safe`: what was on its way then has arrived."""
    query = (
        select(CONTRADICTION, STEP.c.order_id, STEP.c.provider_name, STEP.c.status.label("step_status"))
        .add_columns((CONTRADICTION.c.created_at < NOW - safe_interval).label("is_safe"))
        .join(STEP, and_(STEP.c.tenant_id == CONTRADICTION.c.tenant_id, STEP.c.id == CONTRADICTION.c.step_id))
        .where(CONTRADICTION.c.answer.is_(None))
        .order_by(CONTRADICTION.c.created_at)
    )
    return list(connection.execute(query.limit(limit)))


def _with_live_attempt(*columns: ColumnElement[Any]) -> Select[Any]:
    live = and_(
        ATTEMPT.c.tenant_id == STEP.c.tenant_id,
        ATTEMPT.c.step_id == STEP.c.id,
        ATTEMPT.c.command == "EXECUTE",
        ATTEMPT.c.status.in_(LIVE_STATUSES),
    )
    details = [ATTEMPT.c[name] for name in ("idempotency_key", "worker_id", "sent_at", "heartbeat_at")]
    return (
        select(*STEP.c, ATTEMPT.c.id.label("attempt_id"), ATTEMPT.c.status.label("attempt_status"), *details, *columns)
        .join(ATTEMPT, live)
        .where(is_one_of(STEP.c.status, StepStatus.IN_PROGRESS, StepStatus.UNKNOWN))
        .order_by(STEP.c.updated_at)
    )


def unevaluated_orders(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Running orders whose steps are all final, or of which a ready step was not told, for longer than `grace`."""
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


def _needing_evaluation() -> Select[Any]:
    return (
        select(*ORDER.c)
        .join(STEPS_OF_ORDER, true())
        .where(is_one_of(ORDER.c.status, *RUNNING), STEPS_OF_ORDER.c.all_final | STEPS_OF_ORDER.c.one_untold)
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
