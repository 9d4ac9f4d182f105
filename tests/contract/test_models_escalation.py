"""Reminders, escalation and reuse in the real engine: the test fires the timers and plays workers and people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.approval_walk import FACTS, REMIND, asked_for, decide, groups, requirement, submitted, under_approval
from tests.support.waiting import eventually
from tests.support.walk import Taken, Walk
from workers.runtime.engine import Engine, UserTask
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack

NEXT_REMINDER, NEXT_DUE = (datetime.now(UTC) + timedelta(days=days) for days in (30, 40))
FRESH: dict[str, Variable] = {
    **dict.fromkeys(("reminderNotice", "decisionRefused", "decision", "reasonCode", "comment")),
    "remindAt": NEXT_REMINDER.isoformat(),
    "dueAt": NEXT_DUE.isoformat(),
}
ESCALATION = ("requirementId", "approverGroup", "escalationLevel", "nextApproverGroup", "slaDuration", "decision")


def due_dates(walk: Walk, timer: str, task: UserTask) -> list[datetime]:
    """When a timer at a user task fires, to the second."""
    return [datetime.fromisoformat(job["dueDate"]).replace(microsecond=0) for job in walk.timers(timer, task)]


def escalated(walk: Walk, task: Taken, group: str) -> None:
    """Complete the escalation as the worker does: the next group gets the requirement, with a new deadline."""
    walk.done(task, **FRESH, approverGroup=group, escalationLevel=1, escalationNotice="approverRsm did not decide in time.")


def test_an_approver_is_reminded_once_and_keeps_the_task(engine: Engine) -> None:
    walk = under_approval(engine)
    task, other = asked_for(walk, "r1"), asked_for(walk, "r2")
    assert due_dates(walk, "reminder-due", task) == [REMIND.replace(microsecond=0)]
    walk.let_time_pass("reminder-due", task)
    reminder = walk.take("approval.remind-approver", "tenantId", "requirementId", "escalationLevel")
    assert (reminder.variables["requirementId"], reminder.variables["escalationLevel"]) == ("r1", 0)
    walk.done(reminder, reminderNotice="Please decide.")
    assert walk.seen_by(task)["reminderNotice"] == "Please decide."
    assert walk.seen_by(other)["reminderNotice"] is None
    assert [each.id for each in walk.people(2)] == [task.id, other.id]
    assert walk.timers("reminder-due", task) == []


def test_a_late_reminder_names_the_level_that_it_was_for(engine: Engine) -> None:
    walk = under_approval(engine)
    task = asked_for(walk, "r1")
    walk.let_time_pass("reminder-due", task)
    walk.let_time_pass("decision-overdue", task)
    escalated(walk, walk.take("approval.escalate-requirement"), "approverDirector")
    assert walk.seen_by(asked_for(walk, "r1", after=task))["escalationLevel"] == 1
    assert walk.take("approval.remind-approver", "escalationLevel").variables["escalationLevel"] == 0


def test_an_overdue_decision_goes_to_the_next_group(engine: Engine) -> None:
    walk = under_approval(engine)
    task, other = asked_for(walk, "r1"), asked_for(walk, "r2")
    walk.let_time_pass("decision-overdue", task)
    taken = walk.take("approval.escalate-requirement", *ESCALATION)
    assert taken.variables == {
        "requirementId": "r1",
        "approverGroup": "approverRsm",
        "escalationLevel": 0,
        "nextApproverGroup": "approverDirector",
        "slaDuration": "PT24H",
        "decision": None,
    }
    assert [each.id for each in walk.people(1)] == [other.id]
    escalated(walk, taken, "approverDirector")
    again = asked_for(walk, "r1", after=task)
    assert groups(walk, again) == ["approverDirector"]
    assert again.name == "Escalated: approve quote Q-1"
    assert due_dates(walk, "reminder-due", again) == [NEXT_REMINDER.replace(microsecond=0)]
    assert due_dates(walk, "decision-overdue", again) == [NEXT_DUE.replace(microsecond=0)]
    assert walk.seen_by(again)["escalationNotice"] == "approverRsm did not decide in time."
    assert walk.seen_by(other)["escalationNotice"] is None


def test_an_escalated_task_is_listed_before_the_others(engine: Engine) -> None:
    walk = under_approval(engine)
    task = asked_for(walk, "r1")
    walk.let_time_pass("decision-overdue", task)
    escalated(walk, walk.take("approval.escalate-requirement"), "dealDesk")
    asked_for(walk, "r1", after=task)
    rows = engine.get("/task", processInstanceBusinessKey=walk.business_key, sortBy="priority", sortOrder="desc")
    assert [(row["name"], row["priority"]) for row in rows] == [("Escalated: approve quote Q-1", 60), ("Approve quote Q-1", 50)]


def test_an_approver_escalates_by_hand(engine: Engine) -> None:
    walk = under_approval(engine)
    task = asked_for(walk, "r1")
    decide(walk, "r1", "ESCALATE")
    taken = walk.take("approval.escalate-requirement", *ESCALATION, "reasonCode")
    assert (taken.variables["decision"], taken.variables["reasonCode"]) == ("ESCALATE", "STRATEGIC_DEAL")
    assert taken.variables["nextApproverGroup"] == "approverDirector"
    assert engine.get("/external-task", processInstanceId=walk.instance_id, topicName="approval.record-decision") == []
    escalated(walk, taken, "approverDirector")
    asked_for(walk, "r1", after=task)
    decide(walk, "r1", "APPROVE")
    assert walk.take("approval.record-decision", "decision").variables["decision"] == "APPROVE"


def test_the_deadline_is_extended_when_there_is_no_group_above(engine: Engine) -> None:
    levels: list[Variable] = [{"level": 1, "requirements": [requirement("r1", "DISCOUNT", "dealDesk", escalationLevel=2)]}]
    walk = under_approval(engine, levels)
    task = asked_for(walk, "r1")
    walk.let_time_pass("decision-overdue", task)
    taken = walk.take("approval.escalate-requirement", *ESCALATION)
    assert (taken.variables["nextApproverGroup"], taken.variables["slaDuration"]) == ("dealDesk", "PT24H")
    walk.done(taken, **FRESH, approverGroup="dealDesk", escalationLevel=3, escalationNotice="Nobody stands above.")
    again = asked_for(walk, "r1", after=task)
    assert groups(walk, again) == ["dealDesk"]
    assert due_dates(walk, "decision-overdue", again) == [NEXT_DUE.replace(microsecond=0)]


def test_a_decision_that_was_made_when_the_deadline_passed_is_recorded(engine: Engine) -> None:
    walk = under_approval(engine)
    walk.let_time_pass("decision-overdue", asked_for(walk, "r1"))
    walk.refuse(walk.take("approval.escalate-requirement"), "APPROVAL_ALREADY_DECIDED")
    assert walk.take("approval.record-decision", "requirementId").variables["requirementId"] == "r1"


def test_an_approval_that_is_stale_when_the_deadline_passes_is_void(engine: Engine) -> None:
    walk = under_approval(engine)
    walk.let_time_pass("decision-overdue", asked_for(walk, "r1"))
    walk.refuse(walk.take("approval.escalate-requirement"), "STALE_APPROVAL")
    walk.ends_as("Approval void")


def test_the_deadlines_of_the_next_level_begin_when_it_is_opened(engine: Engine) -> None:
    first, second = requirement("r1", "DISCOUNT", "approverRsm"), requirement("r2", "DISCOUNT", "approverDirector")
    levels: list[Variable] = [{"level": 1, "requirements": [first]}, {"level": 2, "requirements": [second]}]
    walk = under_approval(engine, levels)
    decide(walk, "r1", "APPROVE")
    begun = [levels[0], {"level": 2, "requirements": [{**second, "dueAt": NEXT_DUE.isoformat()}]}]
    walk.work("approval.record-decision", requirementOutcome="APPROVED", approvalOutcome="OPEN", levels=begun)
    assert due_dates(walk, "decision-overdue", asked_for(walk, "r2")) == [NEXT_DUE.replace(microsecond=0)]


def test_signatures_are_reused_when_the_new_offer_is_not_worse(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"maxDiscountPercent": 18.0, "hasBasis": True, "linesAdded": False})
    opened = walk.take("quote.open-requirements", "reuse")
    assert opened.variables["reuse"] is True
    assert engine.instance_variables(walk.instance_id).keys() >= {"reuse", "requirements"}
    walk.done(opened, approvalRequestId=str(uuid4()), approvalNeeded=False, approvalReused=True, levels=[])
    walk.ends_as("Approval reused")


def test_signatures_are_not_reused_when_the_new_offer_is_worse(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"hasBasis": True, "linesAdded": False, "discountChange": 0.5})
    assert walk.take("quote.open-requirements", "reuse").variables["reuse"] is False


def test_a_fact_that_a_rule_cannot_read_fails_a_job_of_the_engine_and_no_external_task(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"basisAgeDays": "old"})
    (job,) = eventually(lambda: engine.get("/job", processInstanceId=walk.instance_id, withException="true"), "a job that failed")
    assert job["failedActivityId"] == "determine-reuse"
    assert engine.get("/external-task", processInstanceId=walk.instance_id) == []


def test_a_time_that_the_engine_cannot_read_fails_a_job_of_the_engine(engine: Engine) -> None:
    walk = under_approval(engine, [{"level": 1, "requirements": [requirement("r1", "DISCOUNT", "approverRsm", remindAt="soon")]}])
    (job,) = eventually(lambda: engine.get("/job", processInstanceId=walk.instance_id, withException="true"), "a job that failed")
    assert job["failedActivityId"] == "approve-quote"
