"""Since when a task that comes too early waits for the same thing: for an order and its step as they are.

Both rows have the time of their last change, by the clock of the database. So neither an earlier wait for something else, nor an outage
before, nor the clock of a worker makes the wait look longer than it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, func, select

from domain.delivery import processes
from domain.delivery.orders import ORDER
from domain.delivery.steps import STEP
from domain.store import UnitOfWork
from domain.workflows.keys import BusinessKey, Kind

OF_A_STEP = frozenset({Kind.STEP, Kind.UNDO_STEP})
# A step that becomes ready keeps its version and `updated_at`. Before that, no task comes too early for it.
LAST = func.greatest(ORDER.c.updated_at, STEP.c.updated_at, STEP.c.ready_at)


def since(uow: UnitOfWork, key: BusinessKey, time: timedelta) -> datetime | None:
    """When the order of a process has last changed, or its step, if that is longer ago than `time`. Raises NotFound."""
    order_id = processes.order_worked_for(uow, key)
    step_id = key.id if key.kind in OF_A_STEP else None
    query = (
        select(LAST)
        .select_from(ORDER.outerjoin(STEP, and_(STEP.c.tenant_id == ORDER.c.tenant_id, STEP.c.id == step_id)))
        .where(ORDER.c.tenant_id == uow.tenant_id, ORDER.c.id == order_id, func.clock_timestamp() - time > LAST)
    )
    moment: datetime | None = uow.connection.scalar(query)
    return moment
