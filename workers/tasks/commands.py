"""How a task handler reaches the domain: one unit of work per command, caused by one external task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine as Database

from domain.errors import Refusal
from domain.store import Cause, UnitOfWork, unit_of_work
from workers.pod.contract import Task
from workers.runtime.refusals import record_refusal


@contextmanager
def open_unit_of_work(database: Database, task: Task, on_behalf_of: str | None = None) -> Iterator[UnitOfWork]:
    """The transaction of one command of this task; its log rows carry instance and business key, a refusal is logged and counted.

    `on_behalf_of` is the person whose act the task passes on: it stands as actor, in place of the worker.
    """
    cause = Cause(
        tenant_id=task.uuid("tenantId"),
        actor=on_behalf_of or f"worker:{task.worker_id}",
        command=task.topic,
        process_instance_id=task.process_instance_id,
        business_key=task.business_key,
    )
    try:
        with unit_of_work(database, cause) as uow:
            yield uow
    except Refusal as refusal:
        record_refusal(refusal, cause)
        raise
