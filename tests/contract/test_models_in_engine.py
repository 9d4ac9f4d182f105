"""`quote-approval` in the real engine: the test walks each path, so that expressions, loops, messages and errors are shown to work."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.approval_walk import DUE, FACTS, asked_for, decide, groups, submitted, under_approval
from tests.support.walk import Walk
from workers.runtime.engine import Engine

pytestmark = pytest.mark.stack


def test_a_quote_that_needs_no_approval_is_approved_automatically(engine: Engine) -> None:
    walk = submitted(engine)
    register = walk.take("workflow.register", "startToken", "tenantId")
    assert register.variables.keys() == {"startToken", "tenantId"}
    assert register.properties == {"retryPolicy": "R5/PT10S", "sla": "PT30S"}
    walk.done(register)
    walk.work("quote.collect-approval-facts", **FACTS)
    opened = walk.take("quote.open-requirements", "requirements")
    assert opened.variables["requirements"] == []
    walk.done(opened, approvalRequestId=str(uuid4()), approvalNeeded=False, approvalReused=False, levels=[])
    walk.ends_as("Quote approved automatically")


def test_the_requirements_of_the_rules_reach_the_worker_as_json(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"maxDiscountPercent": 18.0})
    assert walk.take("quote.open-requirements", "requirements").variables["requirements"] == [
        {
            "level": 1,
            "requirementType": "DISCOUNT",
            "approverGroup": "approverRsm",
            "minAuthorityDiscountPercent": 18.0,
            "slaDuration": "PT24H",
            "because": "A discount of 18.0 % is more than sales may give alone (10 %).",
        }
    ]


def test_levels_follow_each_other_and_the_requirements_of_a_level_are_parallel(engine: Engine) -> None:
    walk = under_approval(engine)
    seen = {task.id: walk.seen_by(task) for task in walk.people(2)}
    assert {(row["requirementId"], row["approverGroup"], row["quoteNumber"]) for row in seen.values()} == {
        ("r1", "approverRsm", "Q-1"),
        ("r2", "dealDesk", "Q-1"),
    }
    decide(walk, "r1", "APPROVE")
    record = walk.take("approval.record-decision", "requirementId", "decision", "reasonCode", "comment", "tenantId")
    assert (record.variables["requirementId"], record.variables["decision"]) == ("r1", "APPROVE")
    other = walk.seen_by(walk.people(1)[0])
    assert (other["requirementId"], other["decision"]) == ("r2", None)
    walk.done(record, requirementOutcome="APPROVED", decisionRefused="", approvalOutcome="OPEN")
    decide(walk, "r2", "APPROVE")
    walk.work("approval.record-decision", requirementOutcome="APPROVED", approvalOutcome="OPEN")
    assert walk.seen_by(walk.people(1)[0])["requirementId"] == "r3"
    decide(walk, "r3", "APPROVE")
    walk.work("approval.record-decision", requirementOutcome="APPROVED", approvalOutcome="APPROVED")
    walk.work("quote.apply-outcome", approvalOutcome="APPROVED")
    walk.ends_as("Quote approved")


def test_an_approver_finds_group_due_date_description_and_form(engine: Engine) -> None:
    walk = under_approval(engine)
    task = asked_for(walk, "r2")
    row = engine.get(f"/task/{task.id}")
    assert task.due is not None
    assert abs(task.due - DUE) < timedelta(seconds=1)
    assert row["name"] == "Approve quote Q-1"
    assert row["description"].startswith("Quote Q-1 needs your decision (PAYMENT_TERMS).")
    assert groups(walk, task) == ["dealDesk"]
    assert engine.get(f"/task/{task.id}/deployed-form")["id"] == "approve-quote"


def test_two_decisions_at_once_do_not_collide(engine: Engine) -> None:
    walk = under_approval(engine)
    for requirement in ("r1", "r2"):
        decide(walk, requirement, "APPROVE")
    first, second = walk.take_all("approval.record-decision", 2, "requirementId")
    assert {first.variables["requirementId"], second.variables["requirementId"]} == {"r1", "r2"}
    walk.done(first, approvalOutcome="OPEN", requirementOutcome="APPROVED", decisionRefused="")
    walk.done(second, approvalOutcome="OPEN", requirementOutcome="APPROVED", decisionRefused="")
    assert walk.seen_by(walk.people(1)[0])["requirementId"] == "r3"
    assert "approvalOutcome" not in engine.instance_variables(walk.instance_id)


@pytest.mark.parametrize("code", ["FOUR_EYES_VIOLATION", "AUTHORITY_EXCEEDED"])
def test_a_refused_decision_gets_a_new_task_with_the_reason(engine: Engine, code: str) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "APPROVE")
    walk.refuse(walk.take("approval.record-decision"), code, decisionRefused="You own this quote.")
    seen = [walk.seen_by(task) for task in walk.people(2)]
    assert {row["requirementId"]: row["decisionRefused"] for row in seen} == {"r1": "You own this quote.", "r2": None}
    decide(walk, "r1", "REJECT")
    assert walk.take("approval.record-decision", "decision").variables["decision"] == "REJECT"


@pytest.mark.parametrize(("outcome", "end"), [("REJECTED", "Quote rejected"), ("REWORK", "Rework required")])
def test_the_first_rejection_ends_all_open_requirements_and_levels(engine: Engine, outcome: str, end: str) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "REJECT")
    walk.work("approval.record-decision", requirementOutcome=outcome, approvalOutcome=outcome)
    apply = walk.take("quote.apply-outcome", "approvalRequestId", "tenantId")
    assert apply.variables.keys() == {"approvalRequestId", "tenantId"}
    assert engine.user_tasks(walk.business_key) == []
    walk.done(apply, approvalOutcome=outcome)
    walk.ends_as(end)


def test_a_stale_approval_is_void_although_other_requirements_are_open(engine: Engine) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "APPROVE")
    walk.refuse(walk.take("approval.record-decision"), "STALE_APPROVAL")
    walk.ends_as("Approval void")


def test_an_outcome_that_became_void_ends_as_void(engine: Engine) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "REJECT")
    walk.work("approval.record-decision", approvalOutcome="REJECTED")
    walk.work("quote.apply-outcome", approvalOutcome="VOID")
    walk.ends_as("Approval void")


@pytest.mark.parametrize("code", ["STALE_REVISION", "STALE_PRICE"])
def test_a_submission_that_is_stale_before_its_requirements_are_opened_is_void(engine: Engine, code: str) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.refuse(walk.take("quote.collect-approval-facts"), code)
    walk.ends_as("Approval void")


def test_an_approval_is_void_when_its_requirements_cannot_be_opened_any_more(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS)
    walk.refuse(walk.take("quote.open-requirements"), "STALE_APPROVAL")
    walk.ends_as("Approval void")


@pytest.mark.parametrize("message", ["QuoteRevisionSuperseded", "QuoteApprovalRecalled", "QuoteExpired", "QuoteCancelled"])
def test_a_withdrawn_quote_leaves_no_user_task(engine: Engine, message: str) -> None:
    walk = under_approval(engine)
    walk.people(2)
    walk.tell(message)
    walk.ends_as("Approval void")
    assert engine.user_tasks(walk.business_key) == []


def test_a_quote_can_be_withdrawn_before_its_first_task_is_done(engine: Engine) -> None:
    walk = submitted(engine)
    walk.take("workflow.register")
    walk.tell("QuoteCancelled")
    walk.ends_as("Approval void")


@pytest.mark.parametrize("process", ["quote-approval", "order-fulfillment", "fallout-case", "late-compensation"])
def test_a_second_start_of_the_same_work_ends_without_effect(engine: Engine, process: str) -> None:
    walk = Walk.start(engine, process, "duplicate", tenantId=str(uuid4()), startToken=str(uuid4()))
    walk.refuse(walk.take("workflow.register"), "DUPLICATE_WORKFLOW")
    walk.ends_as("Duplicate start")
