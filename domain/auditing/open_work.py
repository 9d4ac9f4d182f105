"""Counts the open work of a tenant: the demo and the tests wait until there is none."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, exists, func, select

from domain.delivery import orders
from domain.delivery.orders import ORDER
from domain.delivery.steps import STEP, StepStatus
from domain.projections.tables import INBOX
from domain.store import is_one_of, table_of
from domain.store.facts import TOPICS, OutboxEvent, OutboxStatus, TransitionLog, WorkflowCommandStatus
from domain.store.outbox import INBOX_IS_WHOLE_FOR
from domain.workflows.requests import COMMAND
from domain.workflows.starts import CORRELATION, CorrelationStatus

PROJECTED = tuple(
    aggregate
    for aggregate, topic in TOPICS.items()
    if topic in {TOPICS[name] for name in ("quote", "approval_requirement", "sales_order")}
)
"""The aggregates whose events a projection reads."""


def open_work(connection: Connection, tenant_id: UUID) -> dict[str, int]:
    """Count the open work of one tenant, by kind; all zero means that the tenant is quiet."""
    event, log = table_of(OutboxEvent), table_of(TransitionLog)
    waiting = {
        "workflow_commands": (COMMAND, COMMAND.c.status == WorkflowCommandStatus.PENDING),
        "starts": (CORRELATION, is_one_of(CORRELATION.c.status, CorrelationStatus.REQUESTED, CorrelationStatus.START_UNKNOWN)),
        "steps": (STEP, is_one_of(STEP.c.status, StepStatus.IN_PROGRESS, StepStatus.UNKNOWN, StepStatus.RETRYABLE)),
        "orders": (ORDER, ~is_one_of(ORDER.c.status, *orders.FINAL)),
        "events": (event, event.c.status == OutboxStatus.PENDING),
        "unread_events": (
            log,
            log.c.aggregate_type.in_(PROJECTED)
            & log.c.emitted_event_id.is_not(None)
            # An older event that was read has no row in the inbox any more.
            & (log.c.created_at > func.clock_timestamp() - INBOX_IS_WHOLE_FOR)
            & ~exists(select(INBOX.c.event_id).where(INBOX.c.event_id == log.c.emitted_event_id)),
        ),
    }
    counts = [
        select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id, condition).scalar_subquery().label(name)
        for name, (table, condition) in waiting.items()
    ]
    return {name: int(count) for name, count in connection.execute(select(*counts)).one()._mapping.items()}
