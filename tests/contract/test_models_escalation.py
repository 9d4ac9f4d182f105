"""Reminders, escalation and reuse in the real engine: the test fires the timers and plays workers and people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.approval_walk import FACTS, REMIND, asked, asks, decide, groups, level, signature, submitted, under_approval
from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers.runtime.engine import Engine, UserTask
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack

NEXT_REMINDER, NEXT_DUE = (datetime.now(UTC) + timedelta(days=days) for days in (30, 40))
NEXT: dict[str, Variable] = {"remindAt": NEXT_REMINDER.isoformat(), "dueAt": NEXT_DUE.isoformat()}


def due_dates(walk: Walk, timer: str, task: UserTask) -> list[datetime]:
    """When a timer at a user task fires, to the second."""
    return [datetime.fromisoformat(job["dueDate"]).replace(microsecond=0) for job in walk.timers(timer, task)]


@pytest.fixture
def walk(engine: Engine) -> Walk:
    return under_approval(engine)


@pytest.fixture
def signing(walk: Walk) -> Walk:
    """The process of one signature, for which somebody is asked."""
    return asks(walk, "r1")


def escalated(walk: Walk, before: UserTask, group: str) -> UserTask:
    """Carry out the escalation as the workers do: the next group is asked, with a new deadline; returns its task."""
    signature(walk, "r1").work("approval.collect-escalation-facts")
    signature(walk, "r1").work("approval.escalate-requirement")
    signing = asks(
        walk, "r1", **NEXT, approverGroup=group, escalationLevel=1, escalationNotice="approverRsm did not decide in time."
    )
    return asked(signing, after=before)


def test_an_approver_is_reminded_once_and_keeps_the_task(walk: Walk, signing: Walk) -> None:
    other = asks(walk, "r2")
    task = asked(signing)
    assert due_dates(signing, "reminder-due", task) == [REMIND.replace(microsecond=0)]
    signing.let_time_pass("reminder-due", task)
    reminder = signing.take("approval.remind-approver")
    signing.done(reminder, reminderNotice="Please decide.")
    assert signing.seen_by(task)["reminderNotice"] == "Please decide."
    assert other.seen_by(asked(other))["reminderNotice"] == ""
    assert asked(signing).id == task.id
    assert signing.timers("reminder-due", task) == []


def test_an_overdue_decision_goes_to_the_next_group(walk: Walk, signing: Walk) -> None:
    task = asked(signing)
    signing.let_time_pass("decision-overdue", task)
    again = escalated(walk, task, "approverDirector")
    assert groups(signing, again) == ["approverDirector"]
    assert again.name == "Escalated: approve quote Q-1"
    assert due_dates(signing, "reminder-due", again) == [NEXT_REMINDER.replace(microsecond=0)]
    assert due_dates(signing, "decision-overdue", again) == [NEXT_DUE.replace(microsecond=0)]
    assert signing.seen_by(again)["escalationNotice"] == "approverRsm did not decide in time."


def test_an_escalated_task_is_listed_before_the_others(engine: Engine, walk: Walk, signing: Walk) -> None:
    other, task = asked(asks(walk, "r2")), asked(signing)
    signing.let_time_pass("decision-overdue", task)
    again = escalated(walk, task, "dealDesk")
    tasks = f"{again.id},{other.id}"
    rows = engine.rows("/task", taskIdIn=tasks, sortBy="priority", sortOrder="desc")
    assert [(row["name"], row["priority"]) for row in rows] == [("Escalated: approve quote Q-1", 60), ("Approve quote Q-1", 50)]


def test_an_approver_escalates_by_hand(engine: Engine, walk: Walk, signing: Walk) -> None:
    task = decide(signing, "ESCALATE")
    assert engine.rows("/external-task", processInstanceId=signing.instance_id, topicName="approval.record-decision") == []
    signing.work("approval.collect-escalation-facts")
    taken = signing.take("approval.escalate-requirement", "reasonCode")
    assert taken.variables == {"reasonCode": "STRATEGIC_DEAL"}
    signing.done(taken)
    asks(walk, "r1", **NEXT, approverGroup="approverDirector", escalationLevel=1)
    asked(signing, after=task)
    decide(signing, "APPROVE")
    assert signing.take("approval.record-decision", "decision").variables["decision"] == "APPROVE"


def test_the_deadline_is_extended_when_there_is_no_group_above(engine: Engine) -> None:
    walk = under_approval(engine, level(1, "r2"))
    signing = asks(walk, "r2", escalationLevel=2)
    task = asked(signing)
    signing.let_time_pass("decision-overdue", task)
    signing.work("approval.collect-escalation-facts")
    taken = signing.take("approval.extend-deadline")
    assert taken.properties["slaDuration"] == "PT24H"
    signing.done(taken)
    asks(walk, "r2", **NEXT, escalationLevel=3)
    again = asked(signing, after=task)
    assert groups(signing, again) == ["dealDesk"]
    assert due_dates(signing, "decision-overdue", again) == [NEXT_DUE.replace(microsecond=0)]


def test_a_decision_that_was_made_when_the_deadline_passed_is_recorded(signing: Walk) -> None:
    signing.let_time_pass("decision-overdue", asked(signing))
    signing.work("approval.collect-escalation-facts")
    signing.refuse(signing.take("approval.escalate-requirement"), "APPROVAL_ALREADY_DECIDED")
    signing.work("approval.record-decision", approvalOutcome="OPEN")
    signing.ends_as("Requirement approved")


def test_an_approval_that_is_stale_when_the_deadline_passes_is_void(walk: Walk, signing: Walk) -> None:
    signing.let_time_pass("decision-overdue", asked(signing))
    signing.work("approval.collect-escalation-facts")
    signing.refuse(signing.take("approval.escalate-requirement"), "STALE_APPROVAL")
    walk.work("quote.apply-outcome", approvalOutcome="VOID", levels=[])
    walk.ends_as("Approval void")


def test_signatures_are_reused_when_the_new_offer_is_not_worse(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"maxDiscountPercent": 18.0, "hasBasis": True, "linesAdded": False})
    opened = walk.take("quote.open-requirements")
    assert engine.instance_variables(walk.instance_id)["reuse"] is True
    walk.done(opened, approvalRequestId=str(uuid4()), approvalNeeded=False, approvalReused=True, levels=[])
    walk.ends_as("Approval reused")


def test_signatures_are_not_reused_when_the_new_offer_is_worse(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"hasBasis": True, "linesAdded": False, "discountChange": 0.5})
    walk.take("quote.open-requirements")
    assert engine.instance_variables(walk.instance_id)["reuse"] is False


def test_a_fact_that_a_rule_cannot_read_fails_a_job_of_the_engine_and_no_external_task(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"basisAgeDays": "old"})
    (job,) = eventually(lambda: engine.rows("/job", processInstanceId=walk.instance_id, withException="true"), "a job that failed")
    assert job["failedActivityId"] == "determine-reuse"
    assert engine.rows("/external-task", processInstanceId=walk.instance_id) == []


def test_a_time_that_the_engine_cannot_read_fails_a_job_of_the_engine(engine: Engine, walk: Walk) -> None:
    signing = asks(walk, "r1", remindAt="soon")
    failed = {"processInstanceId": signing.instance_id, "withException": "true"}
    (job,) = eventually(lambda: engine.rows("/job", **failed), "a job that failed")
    assert job["failedActivityId"] == "approve-quote"
