"""The models in the real engine: each way through them is walked by hand, so that expressions, loops, messages and errors are proven."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.support.approval_walk import DUE, FACTS, asked_for, decide, groups, submitted, under_approval
from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

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


def test_levels_are_asked_one_after_the_other_and_requirements_side_by_side(engine: Engine) -> None:
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


def test_decisions_at_the_same_moment_do_not_collide(engine: Engine) -> None:
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
def test_a_decision_that_is_refused_is_asked_again_with_its_reason(engine: Engine, code: str) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "APPROVE")
    walk.refuse(walk.take("approval.record-decision"), code, decisionRefused="You own this quote.")
    seen = [walk.seen_by(task) for task in walk.people(2)]
    assert {row["requirementId"]: row["decisionRefused"] for row in seen} == {"r1": "You own this quote.", "r2": None}
    decide(walk, "r1", "REJECT")
    assert walk.take("approval.record-decision", "decision").variables["decision"] == "REJECT"


@pytest.mark.parametrize(("outcome", "end"), [("REJECTED", "Quote rejected"), ("REWORK", "Rework required")])
def test_the_first_refusal_ends_all_open_requirements_and_levels(engine: Engine, outcome: str, end: str) -> None:
    walk = under_approval(engine)
    decide(walk, "r1", "REJECT")
    walk.work("approval.record-decision", requirementOutcome=outcome, approvalOutcome=outcome)
    apply = walk.take("quote.apply-outcome", "approvalRequestId", "tenantId")
    assert apply.variables.keys() == {"approvalRequestId", "tenantId"}
    assert engine.user_tasks(walk.business_key) == []
    walk.done(apply, approvalOutcome=outcome)
    walk.ends_as(end)


def test_a_stale_approval_is_void_whoever_else_is_still_asked(engine: Engine) -> None:
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
def test_a_submission_that_is_stale_before_anybody_is_asked_is_void(engine: Engine, code: str) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.refuse(walk.take("quote.collect-approval-facts"), code)
    walk.ends_as("Approval void")


def test_requirements_that_can_no_longer_be_opened_are_void(engine: Engine) -> None:
    walk = submitted(engine)
    walk.work("workflow.register")
    walk.work("quote.collect-approval-facts", **FACTS)
    walk.refuse(walk.take("quote.open-requirements"), "STALE_APPROVAL")
    walk.ends_as("Approval void")


@pytest.mark.parametrize("message", ["QuoteRevisionSuperseded", "QuoteApprovalRecalled", "QuoteExpired", "QuoteCancelled"])
def test_a_withdrawn_quote_leaves_nobody_with_a_task(engine: Engine, message: str) -> None:
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


@pytest.mark.parametrize("process", ["quote-approval", "order-fulfillment"])
def test_a_second_start_of_the_same_work_ends_without_effect(engine: Engine, process: str) -> None:
    walk = Walk.start(engine, process, "duplicate", tenantId=str(uuid4()), startToken=str(uuid4()))
    walk.refuse(walk.take("workflow.register"), "DUPLICATE_WORKFLOW")
    walk.ends_as("Duplicate start")


# --- orders


def ordered(engine: Engine, *steps: dict[str, Variable]) -> Walk:
    """Build an order that is decomposed into `steps`."""
    walk = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    walk.work("workflow.register")
    walk.work("order.decompose", steps=list(steps))
    return walk


def step_of(order: Walk, step_id: str) -> Walk:
    """Find the instance of one step by its business key."""
    key = f"step:t1:{step_id}"
    instance = eventually(lambda: order.engine.find_instances(key), f"an instance of {key}")[0]
    return Walk(engine=order.engine, business_key=key, instance_id=instance.id)


def test_an_order_runs_each_step_under_its_own_business_key(engine: Engine) -> None:
    first, second = str(uuid4()), str(uuid4())
    order = ordered(
        engine,
        {"stepId": first, "stepCode": "RESERVE_INVENTORY", "ready": True},
        {"stepId": second, "stepCode": "SHIP_ROUTER", "ready": False},
    )
    execute = step_of(order, first).take("fulfillment.execute-step", "tenantId", "orderId", "stepId", "stepCode")
    assert execute.variables == {
        "tenantId": "t1",
        "orderId": execute.variables["orderId"],
        "stepId": first,
        "stepCode": "RESERVE_INVENTORY",
    }
    step_of(order, first).done(execute, stepOutcome="COMPLETED")
    step_of(order, first).ends_as("Step completed")
    waiting = step_of(order, second)
    waiting.tell("FulfillmentStepReady")
    waiting.work("fulfillment.execute-step", stepOutcome="COMPLETED")
    waiting.ends_as("Step completed")
    order.work("order.evaluate", orderOutcome="FULFILLED")
    order.ends_as("Order fulfilled")


def test_steps_that_end_at_the_same_moment_do_not_collide(engine: Engine) -> None:
    ids = [str(uuid4()) for _ in range(4)]
    steps: list[dict[str, Variable]] = [{"stepId": step, "stepCode": "NOTIFY", "ready": True} for step in ids]
    order = ordered(engine, *steps)
    taken = [(step_of(order, step), step_of(order, step).take("fulfillment.execute-step")) for step in ids]
    for step, task in taken:
        step.done(task, stepOutcome="COMPLETED")
    order.work("order.evaluate", orderOutcome="FULFILLED")
    order.ends_as("Order fulfilled")


def test_an_order_on_hold_is_asked_again_when_it_resumes_or_when_time_passes(engine: Engine) -> None:
    order = ordered(engine)
    order.work("order.evaluate", orderOutcome="HELD")
    order.tell("OrderResumed")
    order.work("order.evaluate", orderOutcome="IN_PROGRESS")
    order.let_time_pass()
    order.work("order.evaluate", orderOutcome="PARTIALLY_FULFILLED")
    order.ends_as("Order partially fulfilled")


def test_an_order_whose_steps_failed_ends_as_failed(engine: Engine) -> None:
    order = ordered(engine)
    order.work("order.evaluate", orderOutcome="FAILED")
    order.ends_as("Order failed")


def test_an_order_that_cannot_be_decomposed_is_rejected(engine: Engine) -> None:
    order = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    order.work("workflow.register")
    order.refuse(order.take("order.decompose"), "ORDER_INVALID")
    order.ends_as("Order rejected")


# --- steps


def planned(engine: Engine, *, ready: bool) -> Walk:
    facts: dict[str, Variable] = {"tenantId": "t1", "orderId": str(uuid4()), "stepId": str(uuid4()), "stepCode": "SHIP_ROUTER"}
    return Walk.start(engine, "fulfillment-step", "step:t1", ready=ready, **facts)


@pytest.mark.parametrize(
    ("outcome", "end"),
    [("COMPLETED", "Step completed"), ("FAILED", "Step failed"), ("CANCELLED", "Step cancelled"), ("SKIPPED", "Step skipped")],
)
def test_a_settled_step_ends_with_its_result(engine: Engine, outcome: str, end: str) -> None:
    step = planned(engine, ready=True)
    step.work("fulfillment.execute-step", stepOutcome=outcome)
    step.ends_as(end)


def test_a_callback_settles_a_step_that_the_provider_accepted(engine: Engine) -> None:
    step = planned(engine, ready=True)
    step.work("fulfillment.execute-step", stepOutcome="ACCEPTED")
    step.tell("ProviderCallbackReceived", stepOutcome="ACCEPTED")
    step.tell("ProviderCallbackReceived", stepOutcome="COMPLETED")
    step.ends_as("Step completed")


def test_a_lost_callback_costs_one_timer_period(engine: Engine) -> None:
    step = planned(engine, ready=True)
    step.work("fulfillment.execute-step", stepOutcome="ACCEPTED")
    step.let_time_pass()
    step.work("fulfillment.check-outcome", stepOutcome="COMPLETED")
    step.ends_as("Step completed")


@pytest.mark.parametrize("open_outcome", ["UNKNOWN", "HELD"])
def test_a_step_waits_while_its_outcome_is_open_and_is_repeated_when_it_may_be(engine: Engine, open_outcome: str) -> None:
    step = planned(engine, ready=True)
    step.work("fulfillment.execute-step", stepOutcome=open_outcome)
    step.let_time_pass()
    step.work("fulfillment.check-outcome", stepOutcome=open_outcome)
    step.let_time_pass()
    step.work("fulfillment.check-outcome", stepOutcome="RETRYABLE")
    step.work("fulfillment.execute-step", stepOutcome="CANCELLED")
    step.ends_as("Step cancelled")


def test_a_step_waits_for_its_predecessors_by_message_or_by_asking(engine: Engine) -> None:
    step = planned(engine, ready=False)
    step.let_time_pass()
    step.work("fulfillment.check-readiness", readiness="WAITING")
    step.let_time_pass()
    step.work("fulfillment.check-readiness", readiness="READY")
    step.work("fulfillment.execute-step", stepOutcome="WAITING")
    step.tell("FulfillmentStepReady")
    step.work("fulfillment.execute-step", stepOutcome="COMPLETED")
    step.ends_as("Step completed")


def test_a_step_that_became_obsolete_is_skipped(engine: Engine) -> None:
    waiting = planned(engine, ready=False)
    waiting.let_time_pass()
    waiting.work("fulfillment.check-readiness", readiness="OBSOLETE")
    waiting.ends_as("Step skipped")
    started = planned(engine, ready=True)
    started.refuse(started.take("fulfillment.execute-step"), "STEP_OBSOLETE")
    started.ends_as("Step skipped")
