"""Topics of `order-fulfillment`: plan the order, evaluate it, assess and carry out its cancellation, watch its time.

Every topic may be repeated: the domain decides once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import cancelling, decomposing, evaluating, jeopardy, orders, reading
from domain.delivery.cancelling import CancellationFacts, DecideCancellation
from domain.delivery.jeopardy import JeopardyLevel
from domain.delivery.steps import StepStatus
from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import ORDER, topic
from workers.tasks.fulfillment import CHECK_AGAIN
from workers.tasks.markdown import plain, table

ASSESSMENT = "assess-cancellation"
NO_JEOPARDY = "NONE"
CANCELLATION_FACTS = ("ponrReached", "stepsCompleted", "stepsInFlight", "stepsOpen", "undoableSteps", "orderValue")
SHOWN_CANCELLATION = ("orderNumber", "customerId", "cancellationReason", "requestedBy", "orderValueText", "stepsText")
UNDER_WAY = (StepStatus.IN_PROGRESS, StepStatus.UNKNOWN)
STEPS_HEAD = "| Step | State | Point of no return | Can be undone |\n|---|---|---|---|\n"


class Orders:
    """The handlers. The engine says which person decided on a cancellation."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("order.decompose", reads=ORDER, sets=("steps",), errors=(orders.OrderInvalid.code, orders.DecompositionFailed.code))
    def decompose(self, task: Task) -> dict[str, Variable]:
        """Plan the order's steps."""
        try:
            with open_unit_of_work(self._database, task) as uow:
                plan = decomposing.decompose(uow, task.uuid("orderId"))
        except orders.OrderNotRunning as refusal:
            raise RetryLater(CHECK_AGAIN, f"the order is {refusal.current_status}") from refusal
        if plan.rejection:
            raise BpmnError(orders.OrderInvalid.code, plan.rejection)
        if plan.failure:
            raise BpmnError(orders.DecompositionFailed.code, plan.failure)
        return {"steps": [_called(step) for step in plan.steps]}

    @topic("order.evaluate", reads=ORDER, sets=("orderOutcome", "compensations"))
    def evaluate(self, task: Task) -> dict[str, Variable]:
        """Bring the order to the status that its steps have reached; returns the undo steps that are still open."""
        order_id = task.uuid("orderId")
        with open_unit_of_work(self._database, task) as uow:
            outcome = evaluating.evaluate(uow, order_id, tells=False)
            undo = reading.open_undo_steps(uow, order_id) if outcome == orders.OrderStatus.CANCELLING else []
        return {"orderOutcome": outcome, "compensations": [_called(step) for step in undo]}

    @topic("order.list-cancellations", reads=ORDER, sets=("cancellations",))
    def list_cancellations(self, task: Task) -> dict[str, Variable]:
        """List the steps whose cancellation the provider must be asked for."""
        with open_unit_of_work(self._database, task) as uow:
            steps = reading.steps_in(uow, task.uuid("orderId"), StepStatus.CANCEL_REQUESTED)
        return {"cancellations": [{"stepId": str(step.id), "stepCode": step.step_code} for step in steps]}

    @topic("order.collect-cancellation-facts", reads=(*ORDER, "cancellationId"), sets=(*CANCELLATION_FACTS, *SHOWN_CANCELLATION))
    def collect_cancellation_facts(self, task: Task) -> dict[str, Variable]:
        """Collect the inputs of DMN `cancellation-policy`, and what a person reads when the policy leaves the decision to one."""
        with open_unit_of_work(self._database, task) as uow:
            facts = cancelling.assess(uow, task.uuid("cancellationId"))
        return {
            "ponrReached": facts.ponr_reached,
            "stepsCompleted": facts.count(StepStatus.COMPLETED),
            "stepsInFlight": facts.count(*UNDER_WAY),
            "stepsOpen": facts.count(StepStatus.PENDING, StepStatus.RETRYABLE, StepStatus.HELD),
            "undoableSteps": sum(step.status == StepStatus.COMPLETED and step.compensable for step in facts.steps),
            "orderValue": float(facts.order_value),
            **_shown(facts),
        }

    @topic(
        "order.decide-cancellation",
        reads=(*ORDER, "cancellationId", "cancellationDecision", "decisionReason", "assessmentReason"),
        sets=("cancellationOutcome",),
    )
    def decide_cancellation(self, task: Task) -> dict[str, Variable]:
        """Carry out the decision of the policy, or of a person."""
        decision = task.variables.get("cancellationDecision")
        if decision not in {"ACCEPT", "DECLINE"}:
            raise GiveUp(f"cancellationDecision must be ACCEPT or DECLINE, it is {decision!r}: correct it on the instance")
        completion = self._engine.who_completed(task.process_instance_id, ASSESSMENT, beside=task.activity_instance_id)
        person = completion.user_id if completion else None
        command = DecideCancellation(
            cancellation_id=task.uuid("cancellationId"),
            accept=decision == "ACCEPT",
            reason=str(task.variables.get("assessmentReason") or task.variables.get("decisionReason") or "NONE"),
            decided_by=person or cancelling.POLICY,
        )
        with open_unit_of_work(self._database, task, on_behalf_of=person) as uow:
            return {"cancellationOutcome": cancelling.decide(uow, command).status}

    @topic("order.assess-jeopardy", reads=ORDER, sets=("usedPercent", "openSteps", "heldSteps"))
    def assess_jeopardy(self, task: Task) -> dict[str, Variable]:
        """Collect the inputs of DMN `jeopardy-level`."""
        with open_unit_of_work(self._database, task) as uow:
            seen = jeopardy.progress(uow, task.uuid("orderId"))
        return {"usedPercent": float(seen.used_percent), "openSteps": seen.open_steps, "heldSteps": seen.held_steps}

    @topic("order.record-jeopardy", reads=(*ORDER, "jeopardyLevel"))
    def record_jeopardy(self, task: Task) -> dict[str, Variable]:
        """Announce that the order will probably be late, when the rules find it in jeopardy."""
        level = task.text("jeopardyLevel")
        if level == NO_JEOPARDY:
            return {}
        try:
            jeopardy_level = JeopardyLevel(level)
        except ValueError:
            raise GiveUp(f"{level!r} is not a jeopardy level: correct the rules of jeopardy-level") from None
        with open_unit_of_work(self._database, task) as uow:
            jeopardy.raise_alert(uow, task.uuid("orderId"), jeopardy_level)
        return {}


def _called(step: Row[Any]) -> dict[str, Any]:
    return {"stepId": str(step.id), "stepCode": step.step_code, "ready": step.ready_at is not None}


def _shown(facts: CancellationFacts) -> dict[str, Variable]:
    return {
        "orderNumber": facts.order.order_number,
        "customerId": facts.order.customer_id,
        "cancellationReason": plain(facts.request.reason_code),
        "requestedBy": plain(facts.request.requested_by),
        "orderValueText": f"{facts.order_value:.2f} {facts.currency}",
        "stepsText": table(STEPS_HEAD, _rows(facts.steps)),
    }


def _rows(steps: Sequence[Row[Any]]) -> list[str]:
    return [
        f"| {plain(step.step_code)} | {plain(step.status)} | {'yes' if step.is_ponr else ''} | {'yes' if step.compensable else 'no'} |"
        for step in steps
    ]
