"""`fulfillment-step` and its decision table in the real engine: a step waits, is sent again, is asked about, or gets a fallout case."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.support.models import TENANT
from tests.support.walk import Walk
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack


def planned(engine: Engine, *, ready: bool = True, code: str = "SHIP_ROUTER") -> Walk:
    facts: dict[str, Variable] = {"tenantId": "t1", "orderId": str(uuid4()), "stepId": str(uuid4()), "stepCode": code}
    return Walk.start(engine, "fulfillment-step", "step:t1", ready=ready, **facts)


def step_result(outcome: str, failure: str = "NONE", attempt: int = 1) -> dict[str, Variable]:
    return {"stepOutcome": outcome, "failureClass": failure, "attemptNo": attempt, "providerName": "sandbox"}


@pytest.mark.parametrize(
    ("outcome", "end"),
    [("COMPLETED", "Step completed"), ("FAILED", "Step failed"), ("CANCELLED", "Step cancelled"), ("SKIPPED", "Step skipped")],
)
def test_the_process_of_a_final_step_ends_with_its_outcome(engine: Engine, outcome: str, end: str) -> None:
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result(outcome))
    step.ends_as(end)


def test_a_callback_settles_a_step_that_the_provider_accepted(engine: Engine) -> None:
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result("ACCEPTED"))
    step.tell("ProviderCallbackReceived", **step_result("ACCEPTED"))
    step.tell("ProviderCallbackReceived", **step_result("COMPLETED"))
    step.ends_as("Step completed")


def test_after_a_lost_callback_the_outcome_is_checked_by_a_timer(engine: Engine) -> None:
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result("ACCEPTED"))
    step.let_time_pass("outcome-wait-over")
    step.work("fulfillment.check-outcome", **step_result("COMPLETED"))
    step.ends_as("Step completed")


def test_a_step_with_an_unknown_outcome_is_checked_and_waits_for_a_callback(engine: Engine) -> None:
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result("UNKNOWN", "TIME_OUT"))
    step.let_time_pass("outcome-wait-over")
    step.work("fulfillment.check-outcome", **step_result("UNKNOWN", "TIME_OUT"))
    step.tell("ProviderCallbackReceived", **step_result("COMPLETED"))
    step.ends_as("Step completed")


@pytest.mark.parametrize(
    ("failure", "attempt"), [("UNAVAILABLE", 1), ("ABSENT", 4), ("RELEASED", 9)], ids=["soon", "later", "released by a person"]
)
def test_a_step_without_effect_is_sent_again_after_a_wait(engine: Engine, failure: str, attempt: int) -> None:
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result("RETRYABLE", failure, attempt))
    step.let_time_pass("retry-due")
    step.work("fulfillment.execute-step", **step_result("COMPLETED"))
    step.ends_as("Step completed")


@pytest.mark.parametrize(
    ("found", "queue", "severity"),
    [
        (("RETRYABLE", "UNAVAILABLE", 5), "falloutL1", "MEDIUM"),
        (("HELD", "REJECTED", 1), "falloutL1", "MEDIUM"),
        (("HELD", "CONTRACT", 1), "falloutL2", "MEDIUM"),
        (("HELD", "CONTRADICTION", 1), "falloutL2", "HIGH"),
        (("HELD", "UNCLEAR", 1), "falloutL1", "HIGH"),
    ],
    ids=str,
)
def test_a_case_is_opened_when_a_rule_requires_it(engine: Engine, found: tuple[str, str, int], queue: str, severity: str) -> None:
    outcome, failure, attempt = found
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result(outcome, failure, attempt))
    opened = step.take("fallout.open-case", "falloutQueue", "falloutSeverity")
    assert opened.variables == {"falloutQueue": queue, "falloutSeverity": severity}
    assert "falloutQueue" not in opened.properties
    step.done(opened, caseId="c-1", stepOutcome="HELD")
    step.let_time_pass("resolution-wait-over")
    step.work("fulfillment.check-outcome", **step_result("HELD", failure))
    step.work("fallout.open-case", caseId="c-1", stepOutcome="HELD")
    step.tell("ProviderCallbackReceived", **step_result("SKIPPED"))
    step.ends_as("Step skipped")


@pytest.mark.parametrize("decided", [("RETRYABLE", "RELEASED"), ("SKIPPED", "NONE")], ids=str)
def test_a_decision_before_the_case_is_opened_is_noticed_at_once(engine: Engine, decided: tuple[str, str]) -> None:
    """The message about it found nobody who waited."""
    outcome, failure = decided
    step = planned(engine)
    step.work("fulfillment.execute-step", **step_result("HELD", "REJECTED"))

    step.work("fallout.open-case", caseId="", **step_result(outcome, failure))

    if outcome == "RETRYABLE":
        step.let_time_pass("retry-due")
        step.work("fulfillment.execute-step", **step_result("COMPLETED"))
    step.ends_as("Step skipped" if outcome == "SKIPPED" else "Step completed")


def test_the_case_of_a_rejected_notification_has_low_severity(engine: Engine) -> None:
    step = planned(engine, code="NOTIFY_CUSTOMER")
    step.work("fulfillment.execute-step", **step_result("HELD", "REJECTED"))
    assert step.take("fallout.open-case", "falloutSeverity").variables == {"falloutSeverity": "LOW"}


def test_a_step_waits_for_its_predecessors_by_message_and_by_timer(engine: Engine) -> None:
    step = planned(engine, ready=False)
    step.let_time_pass("ready-wait-over")
    step.work("fulfillment.check-readiness", readiness="WAITING")
    step.let_time_pass("ready-wait-over")
    step.work("fulfillment.check-readiness", readiness="READY")
    step.work("fulfillment.execute-step", **step_result("WAITING"))
    step.tell("FulfillmentStepReady")
    step.work("fulfillment.execute-step", **step_result("COMPLETED"))
    step.ends_as("Step completed")


def test_a_step_that_was_held_while_it_waited_gets_a_case(engine: Engine) -> None:
    step = planned(engine, ready=False)
    step.let_time_pass("ready-wait-over")
    step.work("fulfillment.check-readiness", readiness="HELD")
    step.work("fulfillment.execute-step", **step_result("HELD", "CONTRADICTION", 0))
    assert step.take("fallout.open-case", "falloutQueue").variables == {"falloutQueue": "falloutL2"}


def test_the_process_of_an_obsolete_step_ends_as_obsolete(engine: Engine) -> None:
    waiting = planned(engine, ready=False)
    waiting.let_time_pass("ready-wait-over")
    waiting.work("fulfillment.check-readiness", readiness="OBSOLETE")
    waiting.ends_as("Step obsolete")
    started = planned(engine)
    started.refuse(started.take("fulfillment.execute-step"), "STEP_OBSOLETE")
    started.ends_as("Step obsolete")


# Facts -> the action and the wait of the first rule that fits. The model also has the action `give up`, which no rule uses.
POLICY = [
    ({"stepOutcome": "RETRYABLE", "failureClass": "ABSENT", "attemptNo": 2}, ("RETRY", "PT1S")),
    ({"stepOutcome": "RETRYABLE", "failureClass": "ABSENT", "attemptNo": 3}, ("RETRY", "PT30S")),
    ({"stepOutcome": "RETRYABLE", "failureClass": "RELEASED", "attemptNo": 7}, ("RETRY", "PT1S")),
    ({"stepOutcome": "RETRYABLE", "failureClass": "ABSENT", "attemptNo": 5}, ("FALLOUT", "PT1S")),
    ({"stepOutcome": "UNKNOWN", "failureClass": "TIME_OUT", "attemptNo": 9}, ("RECONCILE", "PT1S")),
    ({"stepOutcome": "HELD", "failureClass": "UNCLEAR", "attemptNo": 1}, ("FALLOUT", "PT1S")),
]


@pytest.mark.parametrize(("facts", "answer"), POLICY, ids=str)
def test_the_fallout_policy_gives_an_action_and_a_wait(engine: Engine, facts: dict[str, Variable], answer: tuple[str, str]) -> None:
    [rule] = engine.evaluate(TENANT, "fallout-policy", {"stepCode": "SHIP_ROUTER", "providerName": "sandbox", **facts})

    assert (rule["falloutAction"], rule["retryAfter"]) == answer
