"""A case that waits for a person in Tasklist: what its process reads, and what people do about it there and elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Row, select

from domain.fallout import casework
from domain.fallout.cases import business_key, resolution_key
from domain.messages import FALLOUT_CASE_CHANGED
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from domain.workflows.keys import Kind, key_of, parse
from tests.support.database import acting, in_order
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.offers import BERT, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.runtime.variables import encode
from workers.tasks.casework import Casework
from workers.tasks.fallout import Fallout

COMMAND = table_of(WorkflowCommand)


class CaseInTasklist:
    """A case that waits for a person, seen by its process and by the people who work on it."""

    def __init__(self, offers: Offers, work: Fulfilment | None = None) -> None:
        self.database = offers.engine
        self.work = work or Fulfilment.contradicted(offers)
        self._tenant_id, self._case_id = offers.tenant_id, self.work.case().id
        self._told = business_key(offers.tenant_id, self._case_id)
        self._key = resolution_key(offers.tenant_id, self._case_id)
        self._instance_id, self._second_id = offers.process_of_case(self._case_id), ""
        self._second_key = key_of(Kind.CONFIRMATION, self._tenant_id, self._case_id)
        self.engine = KnownEngine(groups=ROLES)
        self._workers = Casework(acting(offers.engine, "tasks"), self.engine.door)

    def read(self) -> dict[str, Any]:
        """Have the process read the case, as it does before it asks a person."""
        values = self._workers.prepare_form(self._task("prepare-form"), parse(self._key))
        self.engine.offer(self._instance_id, values)
        return values

    def resolve(self, person: str, **typed: str) -> dict[str, Any]:
        """Let a person complete the task with what they typed, and the worker carry it out."""
        self.engine.completed_by, self.engine.typed = person, encode(typed)
        return self._workers.apply_resolution(self._task("apply-resolution"), parse(self._key))

    def ask_a_second_person(self) -> dict[str, Any]:
        """Read what a second person is asked to confirm."""
        self._second_id = self.work.offers.process_of(self._second_key)
        values = self._workers.prepare_confirmation(self._second_task("prepare-confirmation"), parse(self._second_key))
        self.engine.offer(self._second_id, values)
        return values

    def ask_again(self) -> dict[str, Any]:
        """Renew the form of the second person."""
        return self._workers.prepare_confirmation(self._second_task("prepare-confirmation"), parse(self._second_key))

    def is_proposed(self) -> bool:
        """Have the process of the case read whether a second person must be asked."""
        task = replace(self._task("read-case"), process_instance_id="instance", business_key=self._told)
        return bool(Fallout(self.database, self.engine.door).read_case(task, parse(self._told))["isProposed"])

    def confirm(self, person: str, *, confirmed: bool = True) -> dict[str, Any]:
        """Let a second person confirm what they were shown, or decline it."""
        self.engine.completed_by, self.engine.typed = person, encode({"confirmed": confirmed})
        return self._workers.confirm_resolution(self._second_task("confirm-resolution"), parse(self._second_key))

    def _second_task(self, activity: str) -> Task:
        task = self._task(activity)
        return replace(task, process_instance_id=self._second_id, business_key=self._second_key)

    def _task(self, activity: str) -> Task:
        return Task(
            id="external-task-1",
            topic=f"fallout.{activity}",
            worker_id="worker-1",
            tenant_id=str(self.work.offers.tenant_id),
            process_instance_id=self._instance_id,
            business_key=self._key,
            activity_id=activity,
            execution_id="execution-1",
        )

    def escalate(self, person: str = BERT) -> None:
        with self.work.offers.uow(person) as uow:
            casework.hand_on(uow, self.work.as_seen(person))

    def messages(self) -> list[Row[Any]]:
        """The messages about changes of this case, oldest first."""
        query = in_order(select(*COMMAND.c), COMMAND).filter_by(business_key=self._told, name=FALLOUT_CASE_CHANGED.name)
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def told(self) -> list[tuple[str, str | None]]:
        return [(message.status, message.outcome) for message in self.messages()]


@pytest.fixture
def case(offers: Offers) -> CaseInTasklist:
    return CaseInTasklist(offers)
