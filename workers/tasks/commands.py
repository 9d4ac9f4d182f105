"""How a task handler reaches the domain: one unit of work per command, caused by one external task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Engine as Database

from domain.store import Cause, UnitOfWork
from domain.workflows.keys import BusinessKey
from workers.pod.contract import Task
from workers.runtime.commands import unit_of_work
from workers.runtime.evaluation import then_evaluate
from workers.tasks.subjects import cause_of


@contextmanager
def open_unit_of_work(database: Database, task: Task, key: BusinessKey, on_behalf_of: str | None = None) -> Iterator[UnitOfWork]:
    """The transaction of one command of this task; its log rows carry instance and business key, a refusal is logged and counted.

    `key` is what the task's instance acts for, and names the tenant. `on_behalf_of` is the person whose act the task passes on: that person
    is the actor, in place of the worker.
    """
    with unit_of_work(database, cause_of(task, key, on_behalf_of)) as uow:
        yield uow


def evaluate_order(database: Database, task: Task, key: BusinessKey, order_id: UUID) -> None:
    """Evaluate the order of a step that this task has changed. A failure is raised: the task is repeated as a whole, which is safe."""

    def carry_out(cause: Cause, command: Callable[[UnitOfWork], object]) -> None:
        with unit_of_work(database, cause) as uow:
            command(uow)

    then_evaluate(carry_out, cause_of(task, key), order_id)
