"""Reminders and escalations on a real database: one that is repeated, late or wrongly modelled has one effect or none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Row, select

from domain.errors import NotFound
from domain.offers import withdrawing
from domain.offers.approvals import ApprovalRequirement
from domain.store import table_of
from domain.store.facts import OutboxEvent, TransitionLog
from tests.support.database import in_order
from tests.support.offers import Offer, Offers
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.engine import Completion, Engine
from workers.tasks.escalation import Escalation
from workers.tasks.topics import CONTRACTS


class OperationLog:
    """The engine's only answer to these handlers: who completed the user task."""

    def __init__(self, user_id: str | None = "rita") -> None:
        self._user_id = user_id

    def who_completed(self, process_instance_id: str, activity_id: str, *, beside: str) -> Completion | None:  # noqa: ARG002
        return Completion(user_id=self._user_id, task_id="task-1", completed_at=datetime.now(UTC)) if self._user_id else None


class Late:
    """A quote in approval whose requirement is overdue, and the tasks that its process gives to the workers."""

    def __init__(self, offers: Offers) -> None:
        self.offers = offers
        self.offer: Offer = offers.quote_in_approval()
        (self.requirement_id,) = offers.requirement_ids(self.offer)

    @property
    def requirement(self) -> Row[Any]:
        table = table_of(ApprovalRequirement)
        with self.offers.engine.connect() as connection:
            return connection.execute(select(*table.c).where(table.c.id == self.requirement_id)).one()

    def actors(self) -> list[str]:
        """Who escalated, by the log."""
        log = table_of(TransitionLog)
        escalated = (log.c.aggregate_id == self.requirement_id) & (log.c.reason == "ESCALATE")
        with self.offers.engine.connect() as connection:
            return list(connection.scalars(in_order(select(log.c.actor), log).where(escalated)))

    def workers(self, user_id: str | None = "rita") -> Escalation:
        return Escalation(self.offers.engine, cast("Engine", OperationLog(user_id)))

    def task(self, topic: str = "approval.escalate-requirement", **variables: Any) -> Task:
        given = {
            "tenantId": str(self.offers.tenant_id),
            "requirementId": str(self.requirement_id),
            "approverGroup": "approverRsm",
            "escalationLevel": 0,
            "nextApproverGroup": "approverDirector",
            "slaDuration": "PT24H",
            "decision": None,
            **variables,
        }
        return Task(
            id="external-task-1",
            topic=topic,
            worker_id="worker-1",
            process_instance_id="instance-1",
            business_key="quote:1",
            activity_id="escalate-requirement",
            execution_id="execution-1",
            variables=given,
        )

    def reminder(self, level: int = 0) -> Task:
        return self.task("approval.remind-approver", escalationLevel=level)

    def count_events(self, event_type: str) -> int:
        """The number of events of this type."""
        table = table_of(OutboxEvent)
        query = select(table.c.id).where(table.c.aggregate_id == self.requirement_id, table.c.event_type == event_type)
        with self.offers.engine.connect() as connection:
            return len(connection.execute(query).all())


@pytest.fixture
def late(offers: Offers) -> Late:
    return Late(offers)


def by_hand(**variables: Any) -> dict[str, Any]:
    return {"decision": "ESCALATE", "reasonCode": "ABOVE_MY_AUTHORITY", "comment": "Not | mine", **variables}


def test_an_escalation_that_is_repeated_after_a_lost_reply_has_one_effect(late: Late) -> None:
    first = late.workers().escalate(late.task())
    again = late.workers().escalate(late.task())
    assert again == first
    assert (first["approverGroup"], first["escalationLevel"], first["decision"]) == ("approverDirector", 1, None)
    assert set(first) == set(CONTRACTS["approval.escalate-requirement"].sets)
    assert first["dueAt"] == late.requirement.due_at.astimezone(UTC).isoformat()
    assert late.count_events("ApprovalEscalated") == 1


def test_a_repeated_reminder_makes_one_event(late: Late) -> None:
    first = late.workers().remind(late.reminder())
    assert late.workers().remind(late.reminder()) == first
    assert set(first) == set(CONTRACTS["approval.remind-approver"].sets)
    assert str(first["reminderNotice"]).startswith("Half of the time is gone.")
    assert late.count_events("ApprovalReminded") == 1


def test_a_reminder_for_an_earlier_level_is_dropped(late: Late) -> None:
    late.workers().escalate(late.task())
    assert late.workers().remind(late.reminder(level=0)) == {}
    assert late.requirement.reminded_at is None


def test_a_signed_requirement_is_neither_escalated_nor_reminded_of(late: Late) -> None:
    late.offers.decide(late.offer, late.requirement_id)
    with pytest.raises(BpmnError) as decided:
        late.workers().escalate(late.task())
    assert decided.value.code == "APPROVAL_ALREADY_DECIDED"
    assert late.workers().remind(late.reminder()) == {}


def test_the_escalation_of_a_void_requirement_is_refused_as_stale(late: Late) -> None:
    offer = late.offers.quote(late.offer.quote_id)
    command = withdrawing.RecallQuote(
        quote_id=offer.quote_id, expected_version=offer.version, revision_id=offer.revision_id, reason_code="WRONG_PRICE"
    )
    with late.offers.uow() as uow:
        withdrawing.recall(uow, command)
    with pytest.raises(BpmnError) as stale:
        late.workers().escalate(late.task())
    assert stale.value.code == "STALE_APPROVAL"
    assert late.workers().remind(late.reminder()) == {}


def test_an_escalation_by_hand_names_the_person_and_the_reason(late: Late) -> None:
    variables = late.workers().escalate(late.task(**by_hand()))
    assert variables["escalationNotice"] == r"rita (approverRsm) escalated the task: ABOVE\_MY\_AUTHORITY – Not \| mine"
    assert late.actors() == ["rita"]
    assert late.requirement.approver_group == "approverDirector"


def test_an_escalation_by_hand_without_a_group_above_does_not_extend_the_deadline(late: Late) -> None:
    before = late.requirement
    variables = late.workers().escalate(late.task(**by_hand(nextApproverGroup="approverRsm")))
    assert variables["escalationNotice"] == (
        r"rita wanted to escalate the task (ABOVE\_MY\_AUTHORITY – Not \| mine), but nobody stands above approverRsm."
    )
    assert late.requirement == before
    assert (variables["dueAt"], variables["escalationLevel"]) == (before.due_at.astimezone(UTC).isoformat(), 0)


def test_a_deadline_that_passed_without_a_group_above_is_extended(late: Late) -> None:
    before = late.requirement
    variables = late.workers().escalate(late.task(nextApproverGroup="approverRsm", slaDuration="PT48H"))
    after = late.requirement
    assert (after.approver_group, after.escalation_level) == ("approverRsm", 1)
    assert after.due_at > before.due_at
    assert variables["escalationNotice"] == "approverRsm did not decide in time. Nobody stands above; the deadline is extended."


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"slaDuration": "a day"}, "slaDuration must be an ISO duration such as PT24H, it is 'a day'"),
        ({"nextApproverGroup": None}, "the process variable 'nextApproverGroup' must be a text"),
        ({"requirementId": "r1"}, "the process variable 'requirementId' must be a UUID"),
    ],
)
def test_a_model_that_gives_wrong_values_makes_an_incident(late: Late, variables: dict[str, Any], reason: str) -> None:
    with pytest.raises(GiveUp, match=reason):
        late.workers().escalate(late.task(**variables))
    assert late.requirement.escalation_level == 0


def test_an_escalation_without_a_person_makes_an_incident(late: Late) -> None:
    with pytest.raises(GiveUp, match="does not say who escalated the task"):
        late.workers(user_id=None).escalate(late.task(**by_hand()))
    assert late.requirement.escalation_level == 0


def test_a_requirement_of_another_tenant_is_not_found(late: Late) -> None:
    with pytest.raises(NotFound):
        late.workers().escalate(late.task(tenantId=str(UUID(int=1))))
