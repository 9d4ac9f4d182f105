"""A signature that is overdue: what the process of its requirement lets the workers do, and people do in Tasklist."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Row, select

from domain.offers.approvals import ApprovalRequirement
from domain.store import table_of
from domain.store.facts import OutboxEvent, TransitionLog
from domain.workflows.keys import BusinessKey, Kind
from tests.support.as_read import Offer
from tests.support.database import acting, in_order
from tests.support.offers import APPROVER, OWNER, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.runtime.variables import encode
from workers.tasks.approval import Approval
from workers.tasks.escalation import Escalation

RULES = "approval-escalation"
DIRECTOR = {"nextApproverGroup": "approverDirector", "slaDuration": "PT24H"}
BY_HAND = {"decision": "ESCALATE", "reasonCode": "ABOVE_MY_AUTHORITY", "comment": "Not | mine"}
GROUPS = dict.fromkeys((APPROVER, OWNER, "rolf"), ("approverRsm",))


class Late:
    """A quote in approval whose requirement is overdue, and the tasks that the process of its signature gives to the workers."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.offer: Offer = offers.quote_in_approval()
        (self.requirement_id,) = offers.requirement_ids(self.offer)
        self.engine = KnownEngine(rows={RULES: [DIRECTOR]}, groups=GROUPS)
        self.key = BusinessKey(Kind.APPROVAL_REQUIREMENT, offers.tenant_id, (self.requirement_id,))
        self.instance_id = offers.process_of_signature(self.requirement_id)

    @property
    def requirement(self) -> Row[Any]:
        table = table_of(ApprovalRequirement)
        with self.offers.engine.connect() as connection:
            return connection.execute(select(*table.c).where(table.c.id == self.requirement_id)).one()

    def actors(self) -> list[str]:
        """Who escalated, by the log."""
        log = table_of(TransitionLog)
        escalated = (log.c.aggregate_id == self.requirement_id) & log.c.reason.in_(("ESCALATE", "HAND_ON"))
        with self.offers.engine.connect() as connection:
            return list(connection.scalars(in_order(select(log.c.actor), log).where(escalated)))

    def show(self) -> None:
        """Let the worker prepare the form."""
        values = Approval(acting(self.offers.engine, "tasks"), self.engine.door).prepare_form(
            self._task("approval.prepare-form"), self.key
        )
        self.engine.offer(self.instance_id, values)

    def escalate(self, instance_id: str | None = None, **variables: Any) -> dict[str, Any]:
        """Let the worker ask the next group; somebody completed the task when `engine.completed_by` says so."""
        return self._workers.escalate(self._task("approval.escalate-requirement", instance_id, **variables), self.key)

    def collect(self) -> dict[str, Any]:
        return self._workers.collect_facts(self._task("approval.collect-escalation-facts"), self.key)

    def extend(self, lasting: str = "PT24H") -> dict[str, Any]:
        """Let the worker give the same group more time."""
        task = self._task("approval.extend-deadline")
        return self._workers.extend(replace(task, properties={"slaDuration": lasting}), self.key)

    def remind(self) -> dict[str, Any]:
        return self._workers.remind(self._task("approval.remind-approver"), self.key)

    def hand_on(self, person: str = APPROVER, **variables: Any) -> dict[str, Any]:
        """Let a person escalate the task in Tasklist."""
        self.engine.completed_by = person
        self.engine.typed = encode({**BY_HAND, **variables})
        return self.escalate()

    def count_events(self, event_type: str) -> int:
        """The number of events of this type."""
        table = table_of(OutboxEvent)
        query = select(table.c.id).where(table.c.aggregate_id == self.requirement_id, table.c.event_type == event_type)
        with self.offers.engine.connect() as connection:
            return len(connection.execute(query).all())

    @property
    def _workers(self) -> Escalation:
        return Escalation(acting(self.offers.engine, "tasks"), self.engine.door)

    def _task(self, topic: str, instance_id: str | None = None, **variables: Any) -> Task:
        return Task(
            id="external-task-1",
            topic=topic,
            worker_id="worker-1",
            tenant_id=str(self.key.tenant_id),
            process_instance_id=instance_id or self.instance_id,
            business_key=str(self.key),
            activity_id="escalate-requirement",
            execution_id="execution-1",
            variables=variables,
        )


@pytest.fixture
def late(offers: Offers) -> Late:
    late = Late(offers)
    offers.make_late()
    late.show()
    return late
