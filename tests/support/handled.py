"""A step in the hands of the handler that carries it out, without a pod and without an engine."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from domain.workflows.keys import BusinessKey, Kind, key_of, parse
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.providers.port import Provider
from workers.tasks.fulfillment import Fulfillment


def handler_of(work: Fulfilment, providers: Mapping[str, Provider] | None = None) -> Fulfillment:
    """The handler with the rights of its process; a silent worker counts as dead after a minute."""
    return Fulfillment(acting(work.offers.engine, "tasks"), KnownEngine().door, providers or {}, timedelta(minutes=1))


def task_of(work: Fulfilment, step: str) -> tuple[Task, BusinessKey]:
    """The task that a worker gets for a step, and what it acts for."""
    key = key_of(Kind.STEP, work.offers.tenant_id, work.step(step).id)
    task = Task(
        id="task-1",
        topic="fulfillment.execute-step",
        worker_id="worker-2",
        tenant_id=str(work.offers.tenant_id),
        process_instance_id=work.offers.process_of(key),
        business_key=key,
        activity_id="execute",
        execution_id="execution-1",
        properties={},
    )
    return task, parse(key)
