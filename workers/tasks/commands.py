"""How a task handler reaches the domain: one unit of work per command, caused by one external task."""

from __future__ import annotations

from contextlib import AbstractContextManager

from sqlalchemy import Engine as Database

from domain.store import Cause, UnitOfWork, unit_of_work
from workers.tasks.contract import Task


def open_unit_of_work(database: Database, task: Task) -> AbstractContextManager[UnitOfWork]:
    """The transaction of one command of this task; its log rows carry instance and business key."""
    cause = Cause(
        tenant_id=task.uuid("tenantId"),
        actor=f"worker:{task.worker_id}",
        command=task.topic,
        process_instance_id=task.process_instance_id,
        business_key=task.business_key,
    )
    return unit_of_work(database, cause)
