"""Topics of `order-fulfillment`: plan the order, evaluate it, assess and carry out its cancellation, watch its time.

Every topic may be repeated: the domain decides once.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import cancellations, cancelling, decomposing, evaluating, jeopardy, orders, processes, reading
from domain.delivery.cancelling import CancellationFacts, DecideCancellation
from domain.delivery.jeopardy import JeopardyLevel, Progress
from domain.delivery.steps import StepStatus
from domain.retry_rules import ORDER_NOT_RUNNING
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.rules import the_only_row

POLICY, JEOPARDY = "cancellation-policy", "jeopardy-level"
ACCEPT, DECLINE, HUMAN = "ACCEPT", "DECLINE", "HUMAN"
NO_JEOPARDY = "NONE"
CANCELLATION_FACTS = ("ponrReached", "stepsCompleted", "stepsInFlight", "stepsOpen", "undoableSteps", "orderValue")
UNDER_WAY = (StepStatus.IN_PROGRESS, StepStatus.UNKNOWN)


class Orders:
    """The handlers. The engine evaluates the rules."""

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
            raise RetryLater.by(ORDER_NOT_RUNNING, f"the order is {refusal.current_status}") from refusal
        if plan.rejection:
            raise BpmnError(orders.OrderInvalid.code, plan.rejection)
        if plan.failure:
            raise BpmnError(orders.DecompositionFailed.code, plan.failure)
        return {"steps": [_called(step) for step in plan.steps]}

    @topic("order.evaluate", Kind.ORDER, Kind.UNDO_STEP, sets=("orderOutcome", "compensations"))
    def evaluate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Bring the order to the status that its steps have reached; returns the undo steps that are still open."""
        with open_unit_of_work(self._database, task, key) as uow:
            order_id = processes.order_worked_for(uow, key)
            outcome = evaluating.evaluate(uow, order_id, tells=key.kind is not Kind.ORDER)
            undo = reading.open_undo_steps(uow, order_id) if outcome == orders.OrderStatus.CANCELLING else []
        return {"orderOutcome": outcome, "compensations": [_called(step) for step in undo]}

    @topic("order.list-cancellations", Kind.ORDER, sets=("cancellations",))
    def list_cancellations(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """List the steps whose cancellation the provider must be asked for."""
        with open_unit_of_work(self._database, task, key) as uow:
            steps = reading.steps_in(uow, key.id, StepStatus.CANCEL_REQUESTED)
        return {"cancellations": [{"stepId": str(step.id), "stepCode": step.step_code} for step in steps]}

    @topic("order.collect-cancellation-facts", Kind.ORDER, sets=("cancellationId", *CANCELLATION_FACTS))
    def collect_cancellation_facts(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of DMN `cancellation-policy`."""
        with open_unit_of_work(self._database, task, key) as uow:
            facts = cancelling.assess(uow, cancelling.last_request(uow, key.id).id)
        return {"cancellationId": str(facts.request.id), **policy_inputs(facts)}

    @topic("order.decide-cancellation", Kind.ORDER, sets=("cancellationOutcome",))
    def decide_cancellation(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out what the rules decide about the order as it is now; HUMAN leaves it to a person."""
        with open_unit_of_work(self._database, task, key) as uow:
            facts = cancelling.facts_of(uow, cancelling.last_request(uow, key.id))
        if facts.request.status not in cancellations.UNDECIDED:
            return {"cancellationOutcome": facts.request.status}
        rule = the_only_row(self._engine, task, POLICY, policy_inputs(facts))
        if rule["cancellationDecision"] not in {ACCEPT, DECLINE}:
            return {"cancellationOutcome": HUMAN}
        command = DecideCancellation(
            cancellation_id=facts.request.id, accept=rule["cancellationDecision"] == ACCEPT, reason=rule["decisionReason"]
        )
        with open_unit_of_work(self._database, task, key) as uow:
            return {"cancellationOutcome": cancelling.decide(uow, command).status}

    @topic("order.assess-jeopardy", Kind.ORDER, sets=("usedPercent", "openSteps", "heldSteps"))
    def assess_jeopardy(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of DMN `jeopardy-level`."""
        with open_unit_of_work(self._database, task, key) as uow:
            seen = jeopardy.progress(uow, key.id)
        return _jeopardy_inputs(seen)

    @topic("order.record-jeopardy", Kind.ORDER)
    def record_jeopardy(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Announce that the order will probably be late, when the rules find it in jeopardy, or that this is over."""
        with open_unit_of_work(self._database, task, key) as uow:
            seen = jeopardy.progress(uow, key.id)
        level = the_only_row(self._engine, task, JEOPARDY, _jeopardy_inputs(seen))["jeopardyLevel"]
        if level == NO_JEOPARDY:
            with open_unit_of_work(self._database, task, key) as uow:
                jeopardy.clear_all(uow, key.id)
            return {}
        try:
            jeopardy_level = JeopardyLevel(level)
        except ValueError:
            raise GiveUp(f"{level!r} is not a jeopardy level: correct the rules of {JEOPARDY}") from None
        with open_unit_of_work(self._database, task, key) as uow:
            jeopardy.raise_alert(uow, key.id, jeopardy_level)
        return {}


def policy_inputs(facts: CancellationFacts) -> dict[str, Variable]:
    """The inputs of DMN `cancellation-policy`; the form shows them, too."""
    return {
        "ponrReached": facts.ponr_reached,
        "stepsCompleted": facts.count(StepStatus.COMPLETED),
        "stepsInFlight": facts.count(*UNDER_WAY),
        "stepsOpen": facts.count(StepStatus.PENDING, StepStatus.RETRYABLE, StepStatus.HELD),
        "undoableSteps": sum(step.status == StepStatus.COMPLETED and step.compensable for step in facts.steps),
        "orderValue": float(facts.order_value),
    }


def _jeopardy_inputs(seen: Progress) -> dict[str, Variable]:
    """The inputs of DMN `jeopardy-level`."""
    return {"usedPercent": float(seen.used_percent), "openSteps": seen.open_steps, "heldSteps": seen.held_steps}


def _called(step: Row[Any]) -> dict[str, Any]:
    return {"stepId": str(step.id), "stepCode": step.step_code, "ready": step.ready_at is not None}
