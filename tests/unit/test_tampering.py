"""Which operations of the engine's log may have written variables beside the completion of a task."""

from __future__ import annotations

import pytest

from workers.runtime.engine_people import _wrote_variables


@pytest.mark.parametrize(
    ("entity", "operation", "task_id", "wrote"),
    [
        ("Variable", "ModifyVariable", None, True),
        ("Task", "Resolve", "task-1", True),
        ("Task", "Resolve", "task-2", False),
        ("ProcessInstance", "ModifyProcessInstance", None, True),
        ("Task", "Claim", "task-1", False),
        ("Task", "Complete", "task-1", False),
        ("ExternalTask", "SetExternalTaskRetries", None, False),
    ],
)
def test_an_operation_may_have_written_variables(entity: str, operation: str, task_id: str | None, wrote: object) -> None:
    row = {"entityType": entity, "operationType": operation, "taskId": task_id}

    assert _wrote_variables(row, "task-1") is wrote
