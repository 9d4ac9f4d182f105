"""External tasks as the engine hands them to a handler."""

from __future__ import annotations

from domain.workflows.keys import BusinessKey
from workers.pod.contract import Task


def task_of(key: BusinessKey, topic: str) -> Task:
    """Make a task that acts for `key`. The name of its activity is what follows the dot in its topic."""
    return Task(
        id="external-task-1",
        topic=topic,
        worker_id="worker-1",
        tenant_id=str(key.tenant_id),
        process_instance_id="instance-1",
        business_key=str(key),
        activity_id=topic.partition(".")[2],
        execution_id="execution-1",
    )
