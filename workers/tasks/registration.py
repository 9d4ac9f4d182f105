"""Topic `workflow.register`: the registration gate, first task of every root process."""

from __future__ import annotations

from sqlalchemy import Engine as Database

from domain.errors import NotFound
from domain.workflows import starts
from domain.workflows.keys import BusinessKey
from workers.pod.contract import BpmnError, Task
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic


class Registration:
    """Lets one instance per business key pass; every other one ends at "Duplicate start" and changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @topic("workflow.register", reads=("startToken",), errors=(starts.DuplicateWorkflow.code,))
    def register(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Register this instance. An instance that the domain did not start is refused like a duplicate."""
        command = starts.RegisterWorkflow(
            business_key=task.business_key, start_token=task.uuid("startToken"), process_instance_id=task.process_instance_id
        )
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                starts.register(uow, command)
        except (starts.DuplicateWorkflow, NotFound) as refusal:
            raise BpmnError(starts.DuplicateWorkflow.code, str(refusal)) from refusal
        return {}
