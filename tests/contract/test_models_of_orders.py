"""The models of orders in the real engine: the test walks each path, and plays workers, people and the clock."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.waiting import eventually
from tests.support.walk import Walk, called
from workers.runtime.engine import Engine, EngineRefusedError
from workers.runtime.variables import Variable
from workers.tasks.cancellation import SHOWN

pytestmark = pytest.mark.stack

FACTS: dict[str, Variable] = {
    "ponrReached": False,
    "stepsCompleted": 1,
    "undoableSteps": 1,
    "stepsInFlight": 1,
    "stepsOpen": 2,
    "orderValue": 1000.0,
    **dict.fromkeys(SHOWN, "…"),
}
"""Facts that the worker collects, for an order whose cancellation the policy accepts."""


def ordered(engine: Engine, *steps: dict[str, Variable]) -> Walk:
    """Start the process of an order that is decomposed into `steps`."""
    walk = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    walk.work("workflow.register")
    walk.work("order.decompose", steps=list(steps))
    return walk


def step(**changes: Variable) -> dict[str, Variable]:
    return {"stepId": str(uuid4()), "stepCode": "SHIP_ROUTER", "ready": True, **changes}


def step_of(order: Walk, called: dict[str, Variable]) -> Walk:
    """Find the running instance of one step by its business key."""
    key = f"step:t1:{called['stepId']!s}"
    instance = eventually(lambda: [i for i in order.engine.find_instances(key) if i.runtime], f"an instance of {key}")[0]
    return Walk(engine=order.engine, business_key=key, instance_id=instance.id)


def evaluated(outcome: str, *compensations: dict[str, Variable]) -> dict[str, Variable]:
    return {"orderOutcome": outcome, "compensations": list(compensations)}


def test_an_order_runs_each_step_under_its_own_business_key(engine: Engine) -> None:
    first, second = step(stepCode="RESERVE_INVENTORY"), step(ready=False)
    order = ordered(engine, first, second)
    execute = step_of(order, first).take("fulfillment.execute-step", "tenantId", "stepId", "stepCode")
    assert execute.variables == {"tenantId": "t1", "stepId": first["stepId"], "stepCode": "RESERVE_INVENTORY"}
    step_of(order, first).done(execute, stepOutcome="COMPLETED")
    waiting = step_of(order, second)
    waiting.tell("FulfillmentStepReady")
    waiting.work("fulfillment.execute-step", stepOutcome="COMPLETED")
    waiting.ends_as("Step completed")
    order.work("order.evaluate", **evaluated("FULFILLED"))
    order.ends_as("Order fulfilled")


def test_steps_that_end_at_once_do_not_collide(engine: Engine) -> None:
    steps = [step() for _ in range(4)]
    order = ordered(engine, *steps)
    taken = [(step_of(order, one), step_of(order, one).take("fulfillment.execute-step")) for one in steps]
    for walk, task in taken:
        walk.done(task, stepOutcome="COMPLETED")
    order.work("order.evaluate", **evaluated("FULFILLED"))
    order.ends_as("Order fulfilled")


def test_a_held_order_is_evaluated_again_when_it_resumes_or_after_a_time(engine: Engine) -> None:
    order = ordered(engine)
    order.work("order.evaluate", **evaluated("HELD"))
    order.tell("OrderResumed")
    order.work("order.evaluate", **evaluated("CANCEL_REQUESTED"))
    order.let_time_pass("order-wait-over")
    order.work("order.evaluate", **evaluated("PARTIALLY_FULFILLED"))
    order.ends_as("Order partially fulfilled")


@pytest.mark.parametrize(
    ("outcome", "end"), [("FAILED", "Order failed"), ("CANCELLED", "Order cancelled"), ("REJECTED", "Order cancelled")]
)
def test_the_process_of_an_order_that_is_not_fulfilled_ends_with_its_outcome(engine: Engine, outcome: str, end: str) -> None:
    order = ordered(engine)
    order.work("order.evaluate", **evaluated(outcome))
    order.ends_as(end)


def test_an_order_that_cannot_be_decomposed_is_rejected(engine: Engine) -> None:
    order = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    order.work("workflow.register")
    order.refuse(order.take("order.decompose"), "ORDER_INVALID")
    order.ends_as("Order rejected")


def test_an_order_that_cannot_be_planned_waits_for_a_person_and_is_planned_again(engine: Engine) -> None:
    order = Walk.start(engine, "order-fulfillment", "order", tenantId="t1", orderId=str(uuid4()), startToken=str(uuid4()))
    order.work("workflow.register")
    order.refuse(order.take("order.decompose"), "DECOMPOSITION_FAILED")
    opened = order.take("fallout.open-case")
    assert (opened.properties["falloutQueue"], opened.properties["falloutSla"]) == ("falloutL2", "PT8H")
    order.done(opened, caseId="c-1")
    order.let_time_pass("planning-wait-over")
    order.refuse(order.take("order.decompose"), "DECOMPOSITION_FAILED")
    order.work("fallout.open-case", caseId="c-1")
    order.tell("OrderResumed")
    order.work("order.decompose", steps=[])
    order.work("order.evaluate", **evaluated("FULFILLED"))
    order.ends_as("Order fulfilled")


def test_jeopardy_is_assessed_every_hour_beside_the_order(engine: Engine) -> None:
    one = step()
    order = ordered(engine, one)
    order.let_time_pass("an-hour-over")
    order.work("order.assess-jeopardy", usedPercent=80.0, openSteps=3, heldSteps=0)
    level = order.take("order.record-jeopardy")
    assert engine.instance_variables(order.instance_id)["jeopardyLevel"] == "HAZARD"
    order.done(level)
    step_of(order, one).work("fulfillment.execute-step", stepOutcome="COMPLETED")
    order.work("order.evaluate", **evaluated("FULFILLED"))
    order.ends_as("Order fulfilled")


def request_cancellation(order: Walk, **facts: Variable) -> str:
    """Ask for the cancellation of the order; returns the business key of its assessment."""
    cancellation_id = str(uuid4())
    order.tell("OrderCancellationRequested", cancellationId=cancellation_id)
    order.work("order.collect-cancellation-facts", cancellationId=cancellation_id, **FACTS | facts)
    return f"cancellation:t1:{cancellation_id}"


def test_the_policy_decides_on_a_cancellation_beside_the_order(engine: Engine) -> None:
    order = ordered(engine, step())
    request_cancellation(order, ponrReached=True)

    order.work("order.decide-cancellation", cancellationOutcome="DECLINED")

    called_by_the_order = eventually(lambda: engine.called_by(order.instance_id), "the step is called")
    assert [each.business_key.partition(":")[0] for each in called_by_the_order] == ["step"]


@pytest.fixture
def assessment(engine: Engine) -> Walk:
    """A cancellation that the policy leaves to a person, who is asked."""
    order = ordered(engine, step())
    key = request_cancellation(order, orderValue=90_000.0)
    order.work("order.decide-cancellation", cancellationOutcome="HUMAN")
    assessing = called(order, key)
    assessing.work("cancellation.prepare-form", **assessed())
    return assessing


def assessed(**changes: Variable) -> dict[str, Variable]:
    typed: dict[str, Variable] = dict.fromkeys(("cancellationDecision", "assessmentReason"))
    return {"isOpen": True, "decisionReason": "HIGH_VALUE", **FACTS, **typed, **changes}


def test_a_person_decides_a_cancellation_that_the_policy_leaves_open(assessment: Walk) -> None:
    [task] = assessment.people(1)
    assert task.name == "Assess cancellation of order …"
    assessment.engine.complete_user_task(task.id, {"cancellationDecision": "ACCEPT", "assessmentReason": "good customer"})

    decided = assessment.take("cancellation.record-decision", "cancellationDecision", "assessmentReason")

    assert decided.variables == {"cancellationDecision": "ACCEPT", "assessmentReason": "good customer"}
    assessment.done(decided, assessmentOutcome="APPLIED")
    assessment.ends_as("Cancellation assessed")


def test_a_refused_decision_on_a_cancellation_gets_a_renewed_form(assessment: Walk) -> None:
    [task] = assessment.people(1)
    assessment.engine.complete_user_task(task.id, {"cancellationDecision": "ACCEPT", "assessmentReason": "good customer"})
    assessment.work("cancellation.record-decision", assessmentOutcome="REFUSED")
    assessment.work("cancellation.prepare-form", **assessed(assessmentRefused="felix: it is yours."))

    [again] = assessment.people(1)

    assert assessment.seen_by(again)["assessmentRefused"] == "felix: it is yours."


def test_a_cancellation_is_asked_about_again_when_somebody_ends_its_process(engine: Engine) -> None:
    order = ordered(engine, step())
    key = request_cancellation(order, orderValue=90_000.0)
    order.work("order.decide-cancellation", cancellationOutcome="HUMAN")
    assessing = called(order, key)
    assessing.work("cancellation.prepare-form", **assessed())
    [task] = assessing.people(1)
    with pytest.raises(EngineRefusedError):
        engine.post(f"/task/{task.id}/bpmnError", {"errorCode": "made up"})

    past_the_person = [
        {"type": "cancel", "activityId": "assess-cancellation"},
        {"type": "startBeforeActivity", "activityId": "cancellation-assessed"},
    ]
    engine.post(f"/process-instance/{assessing.instance_id}/modification", {"instructions": past_the_person})

    assert order.take("order.decide-cancellation")


def test_nobody_is_asked_about_a_cancellation_that_was_decided_over_http(engine: Engine) -> None:
    order = ordered(engine, step())
    key = request_cancellation(order, orderValue=90_000.0)
    order.work("order.decide-cancellation", cancellationOutcome="HUMAN")
    assessing = called(order, key)
    assessing.work("cancellation.prepare-form", **assessed(isOpen=False))
    assessing.ends_as("Decided otherwise")


def test_an_accepted_cancellation_cancels_the_steps_under_way_and_undoes_the_completed_ones(engine: Engine) -> None:
    under_way, undo = step(), step(stepCode="RESERVE_INVENTORY")
    order = ordered(engine, under_way)
    step_of(order, under_way).take("fulfillment.execute-step")
    order.tell("OrderCancellationAccepted")
    order.work("order.list-cancellations", cancellations=[{"stepId": under_way["stepId"], "stepCode": "SHIP_ROUTER"}])
    cancelled = step_of(order, under_way)
    cancelled.work("fulfillment.cancel-step", stepOutcome="CANCELLED")
    cancelled.ends_as("Step cancelled")
    order.work("order.evaluate", **evaluated("CANCELLING", undo))
    step_of(order, undo).work("fulfillment.execute-step", stepOutcome="COMPLETED")
    order.work("order.evaluate", **evaluated("CANCELLED"))
    order.ends_as("Order cancelled")


def test_a_cancellation_waits_while_outcomes_are_open_and_may_end_partly(engine: Engine) -> None:
    order = ordered(engine, step())
    order.tell("OrderCancellationAccepted")
    order.work("order.list-cancellations", cancellations=[])
    order.work("order.evaluate", **evaluated("CANCELLING"))
    order.tell("OrderResumed")
    order.work("order.evaluate", **evaluated("CANCELLING"))
    order.let_time_pass("cancellation-wait-over")
    order.work("order.evaluate", **evaluated("PARTIALLY_FULFILLED"))
    order.ends_as("Cancellation partial")


def cancelling(engine: Engine) -> Walk:
    facts: dict[str, Any] = {"tenantId": "t1", "orderId": str(uuid4()), "stepId": str(uuid4()), "stepCode": "SHIP_ROUTER"}
    return Walk.start(engine, "cancel-step", "step:t1", **facts)


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("CANCELLED", "Step cancelled"),
        ("COMPLETED", "Step was completed"),
        ("FAILED", "Step had ended"),
        ("SKIPPED", "Step had ended"),
    ],
)
def test_the_cancellation_of_a_step_ends_with_the_outcome_of_the_step(engine: Engine, outcome: str, end: str) -> None:
    walk = cancelling(engine)
    walk.work("fulfillment.cancel-step", stepOutcome="ACCEPTED")
    walk.tell("ProviderCallbackReceived", stepOutcome="ACCEPTED")
    walk.work("fulfillment.cancel-step", stepOutcome="UNKNOWN")
    walk.let_time_pass("outcome-wait-over")
    walk.work("fulfillment.cancel-step", stepOutcome=outcome)
    walk.ends_as(end)


def test_a_cancellation_whose_outcome_stays_unknown_gets_a_case(engine: Engine) -> None:
    walk = cancelling(engine)
    walk.work("fulfillment.cancel-step", stepOutcome="HELD")
    walk.work("fallout.open-case", caseId="c-1", stepOutcome="HELD")
    walk.let_time_pass("resolution-wait-over")
    walk.work("fulfillment.cancel-step", stepOutcome="HELD")
    walk.work("fallout.open-case", caseId="c-1", stepOutcome="HELD")
    walk.tell("ProviderCallbackReceived", stepOutcome="CANCELLED")
    walk.work("fulfillment.cancel-step", stepOutcome="CANCELLED")
    walk.ends_as("Step cancelled")


def test_a_late_effect_is_undone_and_its_order_evaluated(engine: Engine) -> None:
    undo = step()
    facts: dict[str, Any] = {**undo, "tenantId": "t1", "orderId": str(uuid4()), "startToken": str(uuid4())}
    walk = Walk.start(engine, "late-compensation", "undo", **{name: facts[name] for name in facts if name != "ready"})
    walk.work("workflow.register")
    step_of(walk, undo).work("fulfillment.execute-step", stepOutcome="COMPLETED")
    walk.work("order.evaluate", **evaluated("CANCELLED"))
    walk.ends_as("Effect undone")
