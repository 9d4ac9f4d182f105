"""Finds steps that still wait for their process to send them, so that reconciliation can ask the engine whether that process still runs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select, true

from domain.delivery import incidents, steps
from domain.delivery.steps import STEP, FulfillmentStep
from domain.store import UnitOfWork
from domain.store.claims import NOW, Groups, fairly
from domain.store.leases import is_free
from domain.workflows.instances import INSTANCE
from domain.workflows.keys import Kind

KIND = "unattended"
# The last instance that was recorded for the step: an earlier one belongs to a process that was restarted.
_PROCESS = (
    select(INSTANCE.c.process_instance_id, INSTANCE.c.caller_instance_id)
    .where(INSTANCE.c.tenant_id == STEP.c.tenant_id)
    .where(INSTANCE.c.business_key == func.concat(f"{Kind.STEP}:", STEP.c.tenant_id, ":", STEP.c.id))
    .where(INSTANCE.c.caller_instance_id.is_not(None))
    .order_by(INSTANCE.c.created_at.desc())
    .limit(1)
    .correlate(STEP)
    .lateral("process")
)


def waiting_to_be_sent(connection: Connection, limit: int, grace: timedelta) -> list[Row[Any]]:
    """Steps that have been ready for longer than `grace` and were not sent, with the instance that sends them and its caller."""
    query = (
        select(*STEP.c, *_PROCESS.c)
        .select_from(STEP.join(_PROCESS, true()))
        .where(STEP.c.ready_at < NOW - grace, STEP.c.updated_at < NOW - grace, is_free(KIND, STEP))
    )
    groups = Groups(by=(STEP.c.tenant_id,), among=steps.TO_SEND)
    return list(connection.execute(select(fairly(query, groups, STEP.c.ready_at, limit))))


def lose(uow: UnitOfWork, row: Row[Any], root: Row[Any], state: str) -> bool:
    """Count the process at the root as lost, because the instance that should send this step has ended and the step still waits.

    `row` is the step as it was read, `root` the correlation of that process. Returns False when the step has changed since. Raises NotFound,
    CorrelationMovedOn.
    """
    if uow.read(FulfillmentStep, row.id, lock=True).version != row.version:
        return False
    called = steps.business_key(row.tenant_id, row.id)
    return incidents.lose(uow, root.business_key, root.process_instance_id, state, called=called)
