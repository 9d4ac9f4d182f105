"""`quote-approval` in the real engine: the test walks each path, so that expressions, loops, messages and errors are shown to work."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from tests.support.approval_walk import DUE, FACTS, asked, asks, decide, groups, level, signature, submitted, under_approval
from tests.support.walk import Walk
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack


def test_a_quote_that_needs_no_approval_is_approved_automatically(engine: Engine) -> None:
    walk = submitted(engine)
    register = walk.take("workflow.register", "startToken")
    assert register.variables.keys() == {"startToken"}
    assert register.properties == {"retryPolicy": "R5/PT10S", "sla": "PT30S"}
    walk.done(register)
    walk.work("quote.collect-approval-facts", **FACTS)
    walk.work("quote.open-requirements", approvalRequestId=str(uuid4()), approvalNeeded=False, approvalReused=False, levels=[])
    walk.ends_as("Quote approved automatically")


def test_the_rules_show_in_the_process_what_they_demand(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS | {"maxDiscountPercent": 18.0})
    walk.take("quote.open-requirements")
    assert engine.instance_variables(walk.instance_id)["requirements"] == [
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
    first, second = asks(walk, "r1"), asks(walk, "r2")
    decide(first, "APPROVE")
    record = first.take("approval.record-decision", "decision", "reasonCode", "comment")
    assert record.variables == {"decision": "APPROVE", "reasonCode": "STRATEGIC_DEAL", "comment": ""}
    assert second.seen_by(asked(second))["decision"] is None
    first.done(record, approvalOutcome="OPEN")
    first.ends_as("Requirement approved")
    decide(second, "APPROVE")
    second.work("approval.record-decision", approvalOutcome="OPEN")
    third = asks(walk, "r3")
    decide(third, "APPROVE")
    third.work("approval.record-decision", approvalOutcome="APPROVED")
    walk.work("quote.apply-outcome", approvalOutcome="APPROVED", levels=[])
    walk.ends_as("Quote approved")


def test_an_approver_finds_group_due_date_description_and_form(engine: Engine) -> None:
    signing = asks(under_approval(engine), "r2")
    task = asked(signing)
    row = engine.get(f"/task/{task.id}")
    assert task.due is not None
    assert abs(datetime.fromisoformat(task.due) - DUE) < timedelta(seconds=1)
    assert row["name"] == "Approve quote Q-1"
    assert row["description"].startswith("Quote Q-1 needs your decision (PAYMENT_TERMS).")
    assert groups(signing, task) == ["dealDesk"]
    assert engine.get(f"/task/{task.id}/deployed-form")["id"] == "approve-quote"


def test_nothing_that_an_approver_writes_reaches_the_approval(engine: Engine) -> None:
    walk = under_approval(engine)
    before = engine.instance_variables(walk.instance_id)
    signing = asks(walk, "r1")
    forged: dict[str, Variable] = {
        "tenantId": "another",
        "levels": [],
        "requirementId": "r3",
        "approvalOutcome": "APPROVED",
        "surprise": True,
    }
    assert engine.complete_user_task(asked(signing).id, {"decision": "APPROVE", **forged})
    signing.work("approval.record-decision", approvalOutcome="OPEN")
    signing.ends_as("Requirement approved")
    assert engine.instance_variables(walk.instance_id) == before


def test_two_decisions_at_once_do_not_collide(engine: Engine) -> None:
    walk = under_approval(engine)
    signings = [asks(walk, "r1"), asks(walk, "r2")]
    for signing in signings:
        decide(signing, "APPROVE")
    for signing, task in [(signing, signing.take("approval.record-decision")) for signing in signings]:
        signing.done(task, approvalOutcome="OPEN")
    assert asked(asks(walk, "r3"))


@pytest.mark.parametrize("code", ["FOUR_EYES_VIOLATION", "AUTHORITY_EXCEEDED", "FORM_CHANGED"])
def test_a_refused_decision_gets_a_renewed_form(engine: Engine, code: str) -> None:
    walk = under_approval(engine)
    signing = asks(walk, "r1")
    refused = decide(signing, "APPROVE")
    signing.refuse(signing.take("approval.record-decision"), code)
    asks(walk, "r1", decisionRefused="You own this quote.")
    seen = signing.seen_by(asked(signing, after=refused))
    assert (seen["decisionRefused"], seen["decision"]) == ("You own this quote.", None)
    decide(signing, "REJECT")
    assert signing.take("approval.record-decision", "decision").variables["decision"] == "REJECT"


@pytest.mark.parametrize(("outcome", "end"), [("REJECTED", "Quote rejected"), ("REWORK", "Rework required")])
def test_the_first_rejection_ends_all_open_requirements_and_levels(engine: Engine, outcome: str, end: str) -> None:
    walk = under_approval(engine)
    first, second = asks(walk, "r1"), asks(walk, "r2")
    decide(first, "REJECT")
    first.work("approval.record-decision", approvalOutcome=outcome)
    apply = walk.take("quote.apply-outcome")
    assert engine.user_tasks(second.business_key) == []
    walk.done(apply, approvalOutcome=outcome, levels=[])
    walk.ends_as(end)


def test_a_stale_approval_is_void_although_other_requirements_are_open(engine: Engine) -> None:
    walk = under_approval(engine)
    asks(walk, "r2")
    signing = asks(walk, "r1")
    decide(signing, "APPROVE")
    signing.refuse(signing.take("approval.record-decision"), "STALE_APPROVAL")
    walk.work("quote.apply-outcome", approvalOutcome="VOID", levels=[])
    walk.ends_as("Approval void")


@pytest.mark.parametrize(
    ("how", "body"),
    [
        ("bpmnError", {"errorCode": "STALE_APPROVAL"}),
        ("bpmnEscalation", {"escalationCode": "LEVEL_REFUSED"}),
    ],
)
def test_a_signature_is_asked_for_again_when_somebody_ends_its_task_otherwise(
    engine: Engine, how: str, body: dict[str, str]
) -> None:
    walk = under_approval(engine, level(1, "r1"))
    before = asked(asks(walk, "r1"))

    engine.post(f"/task/{before.id}/{how}", body)

    walk.work("quote.apply-outcome", approvalOutcome="OPEN", levels=[level(1, "r1")])
    assert asked(asks(walk, "r1"), after=before)


def test_an_approval_that_is_stale_before_somebody_is_asked_is_void(engine: Engine) -> None:
    walk = under_approval(engine)
    signing = signature(walk, "r1")
    signing.refuse(signing.take("approval.prepare-form"), "STALE_APPROVAL")
    walk.work("quote.apply-outcome", approvalOutcome="VOID", levels=[])
    walk.ends_as("Approval void")


def test_nobody_is_asked_for_a_signature_that_was_given_over_http(engine: Engine) -> None:
    signing = asks(under_approval(engine), "r1", isDecided=True)
    signing.work("approval.record-decision", approvalOutcome="OPEN")
    signing.ends_as("Requirement approved")


def test_an_outcome_that_became_void_ends_as_void(engine: Engine) -> None:
    walk = under_approval(engine)
    signing = asks(walk, "r1")
    decide(signing, "REJECT")
    signing.work("approval.record-decision", approvalOutcome="REJECTED")
    walk.work("quote.apply-outcome", approvalOutcome="VOID", levels=[])
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
    signing = asks(walk, "r1")
    assert asked(signing)
    walk.tell(message)
    walk.ends_as("Approval void")
    assert engine.user_tasks(signing.business_key) == []


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


def test_a_second_start_ends_at_the_gate_although_a_message_has_given_it_work(engine: Engine) -> None:
    """A message goes to every instance of its business key. The task that it gives to a second one is refused, and leaves an incident."""
    order = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    gate = order.take("workflow.register")
    order.tell("OrderCancellationRequested")
    given = order.take("order.collect-cancellation-facts")
    engine.failure(given.id, message="refused", details="", retries=0, retry_after=timedelta())
    assert engine.incidents_at(order.instance_id, "collect-cancellation-facts")

    order.refuse(gate, "DUPLICATE_WORKFLOW")

    order.ends_as("Duplicate start")
    assert not engine.work_of(order.instance_id)
    assert not engine.incidents_at(order.instance_id, "collect-cancellation-facts")
