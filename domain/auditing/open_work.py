"""Counts what is still on its way for a tenant: the demo and the tests wait until nothing is."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, exists, func, select

from domain.delivery.orders import FINAL as ORDER_FINAL
from domain.delivery.orders import SalesOrder
from domain.delivery.steps import STEP, StepStatus
from domain.projections import INBOX
from domain.store import is_one_of, table_of
from domain.store.facts import TOPICS, OutboxEvent, OutboxStatus, WorkflowCommandStatus
from domain.workflows.requests import COMMAND
from domain.workflows.starts import CORRELATION, CorrelationStatus


def open_work(connection: Connection, tenant_id: UUID) -> dict[str, int]:
    """Count what is still on its way for one tenant: nothing left means that it is quiet."""
    step, order, event = STEP, table_of(SalesOrder), table_of(OutboxEvent)
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
