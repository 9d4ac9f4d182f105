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
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.fulfillment import CHECK_AGAIN
from workers.tasks.markdown import plain, table
from workers.tasks.persons import who_completed

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

    @topic("order.decompose", Kind.ORDER, sets=("steps",), errors=(orders.OrderInvalid.code, orders.DecompositionFailed.code))
    def decompose(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Plan the order's steps."""
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                plan = decomposing.decompose(uow, key.id)
        except orders.OrderNotRunning as refusal:
            raise RetryLater(CHECK_AGAIN, f"the order is {refusal.current_status}") from refusal
        if plan.rejection:
            raise BpmnError(orders.OrderInvalid.code, plan.rejection)
        if plan.failure:
            raise BpmnError(orders.DecompositionFailed.code, plan.failure)
        return {"steps": [_called(step) for step in plan.steps]}

    @topic("order.evaluate", Kind.ORDER, sets=("orderOutcome", "compensations"))
    def evaluate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Bring the order to the status that its steps have reached; returns the undo steps that are still open."""
        with open_unit_of_work(self._database, task, key) as uow:
            outcome = evaluating.evaluate(uow, key.id, tells=False)
            undo = reading.open_undo_steps(uow, key.id) if outcome == orders.OrderStatus.CANCELLING else []
        return {"orderOutcome": outcome, "compensations": [_called(step) for step in undo]}

    @topic("order.list-cancellations", Kind.ORDER, sets=("cancellations",))
    def list_cancellations(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """List the steps whose cancellation the provider must be asked for."""
        with open_unit_of_work(self._database, task, key) as uow:
            steps = reading.steps_in(uow, key.id, StepStatus.CANCEL_REQUESTED)
        return {"cancellations": [{"stepId": str(step.id), "stepCode": step.step_code} for step in steps]}

    @topic("order.collect-cancellation-facts", Kind.ORDER, sets=(*CANCELLATION_FACTS, *SHOWN_CANCELLATION))
    def collect_cancellation_facts(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of DMN `cancellation-policy`, and what a person reads when the policy leaves the decision to one."""
        with open_unit_of_work(self._database, task, key) as uow:
            facts = cancelling.assess(uow, cancelling.last_request(uow, key.id).id)
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
        Kind.ORDER,
        reads=("cancellationDecision", "decisionReason", "assessmentReason"),
        sets=("cancellationOutcome",),
    )
    def decide_cancellation(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the decision of the policy, or of a person."""
        decision = task.variables.get("cancellationDecision")
        if decision not in {"ACCEPT", "DECLINE"}:
            raise GiveUp(f"cancellationDecision must be ACCEPT or DECLINE, it is {decision!r}: correct it on the instance")
        person = who_completed(self._engine, task, ASSESSMENT)
        with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id if person else None) as uow:
            command = DecideCancellation(
                cancellation_id=cancelling.last_request(uow, key.id).id,
                accept=decision == "ACCEPT",
                reason=str(task.variables.get("assessmentReason") or task.variables.get("decisionReason") or "NONE"),
                decided_by=person.user_id if person else cancelling.POLICY,
            )
            return {"cancellationOutcome": cancelling.decide(uow, command).status}

    @topic("order.assess-jeopardy", Kind.ORDER, sets=("usedPercent", "openSteps", "heldSteps"))
    def assess_jeopardy(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of DMN `jeopardy-level`."""
        with open_unit_of_work(self._database, task, key) as uow:
            seen = jeopardy.progress(uow, key.id)
        return {"usedPercent": float(seen.used_percent), "openSteps": seen.open_steps, "heldSteps": seen.held_steps}

    @topic("order.record-jeopardy", Kind.ORDER, reads=("jeopardyLevel",))
    def record_jeopardy(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Announce that the order will probably be late, when the rules find it in jeopardy."""
        level = task.text("jeopardyLevel")
        if level == NO_JEOPARDY:
            return {}
        try:
            jeopardy_level = JeopardyLevel(level)
        except ValueError:
            raise GiveUp(f"{level!r} is not a jeopardy level: correct the rules of jeopardy-level") from None
        with open_unit_of_work(self._database, task, key) as uow:
            jeopardy.raise_alert(uow, key.id, jeopardy_level)
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
