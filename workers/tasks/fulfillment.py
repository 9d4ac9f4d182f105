"""Topics of `order-fulfillment` and `fulfillment-step`: decompose, execute, look, evaluate.

`execute-step` is where the lesson's sections 16 and 21 live: claim the step, send with a stable key outside any transaction, record what came
back. What is not known is recorded as UNKNOWN and asked for later, never sent again blindly.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import decomposing, evaluating, fulfilling, orders, reading, starting, steps
from domain.errors import Refusal
from domain.fulfilling import Infer, OutcomeSource, RecordFact
from domain.starting import StartedStep, StartStep
from domain.steps import StepEvent, StepStatus
from workers.providers.port import (
    Provider,
    ProviderContractError,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ProviderRequest,
    ProviderUnavailableError,
    ReplyStatus,
)
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES, STEP_DUPLICATE_EXECUTIONS_PREVENTED
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contract import BpmnError, RetryLater, Task

# Somebody else is at it, or the order is on hold: look again soon, without using up an attempt.
LOOK_AGAIN = timedelta(seconds=2)
EVENT_OF = {
    ReplyStatus.ACCEPTED: StepEvent.ACKNOWLEDGE,
    ReplyStatus.COMPLETED: StepEvent.COMPLETE,
    ReplyStatus.REJECTED: StepEvent.FAIL_FINALLY,
}
STARTABLE = (StepStatus.PENDING, StepStatus.RETRYABLE)


class Fulfillment:
    """The handlers. `stale_after`: a worker that gave no sign of life for so long is taken for dead."""

    def __init__(self, database: Database, providers: Mapping[str, Provider], stale_after: timedelta) -> None:
        self._database = database
        self._providers = providers
        self._stale_after = stale_after

    def decompose(self, task: Task) -> dict[str, Variable]:
        """Plan the order's steps."""
        with open_unit_of_work(self._database, task) as uow:
            plan = decomposing.decompose(uow, task.uuid("orderId"))
        if plan.rejection:
            raise BpmnError(orders.OrderInvalid.code, plan.rejection)
        return {
            "steps": [
                {"stepId": str(step.id), "stepCode": step.step_code, "ready": step.ready_at is not None} for step in plan.steps
            ]
        }

    def check_readiness(self, task: Task) -> dict[str, Variable]:
        """Ask the domain whether the step's predecessors are done."""
        with open_unit_of_work(self._database, task) as uow:
            return {"readiness": reading.readiness(uow, task.uuid("stepId"))}

    def check_outcome(self, task: Task) -> dict[str, Variable]:
        """Ask the domain how the step stands; reconciliation is who asks the provider."""
        return {"stepOutcome": fulfilling.outcome_of(self._look(task).status)}

    def evaluate(self, task: Task) -> dict[str, Variable]:
        """Settle the order if its last step is final."""
        return {"orderOutcome": self._evaluate(task, task.uuid("orderId"))}

    def heartbeat(self, task: Task) -> None:
        """Tell the domain that this worker is still at its attempt."""
        with open_unit_of_work(self._database, task) as uow:
            starting.heartbeat(uow, task.id, task.worker_id)

    def execute(self, task: Task) -> dict[str, Variable]:
        """Carry out the step, once."""
        step = self._look(task)
        if step.status not in STARTABLE:
            return {"stepOutcome": self._outcome_of_another(task, step)}
        started = self._start(task, step)
        if started is None:
            return {"stepOutcome": "WAITING"}
        return {"stepOutcome": fulfilling.outcome_of(self._send(task, started))}

    def _look(self, task: Task) -> Row[Any]:
        with open_unit_of_work(self._database, task) as uow:
            return reading.step(uow, task.uuid("stepId"))

    def _outcome_of_another(self, task: Task, step: Row[Any]) -> str:
        """The step was started before: by a worker that is still at it, that died, or that is done."""
        STEP_DUPLICATE_EXECUTIONS_PREVENTED.labels(command=task.topic).inc()
        if step.status != StepStatus.IN_PROGRESS or step.attempt_status == "ACKNOWLEDGED":
            return fulfilling.outcome_of(step.status)
        if step.seconds_since_heartbeat < self._stale_after.total_seconds():
            raise RetryLater(LOOK_AGAIN, f"worker {step.worker_id} is carrying out this step")
        return fulfilling.outcome_of(self._infer_unknown(task, step, "the worker gave no sign of life", self._stale_after))

    def _start(self, task: Task, step: Row[Any]) -> StartedStep | None:
        command = StartStep(step_id=step.id, expected_version=step.version, worker_id=task.worker_id, external_task_id=task.id)
        try:
            with open_unit_of_work(self._database, task) as uow:
                return starting.start_step(uow, command)
        except steps.PredecessorOpen:
            return None
        except orders.OrderNotRunning as refusal:
            if refusal.current_status in orders.FINAL:
                raise BpmnError(steps.StepObsolete.code, str(refusal)) from refusal
            raise RetryLater(LOOK_AGAIN, f"the order is {refusal.current_status}") from refusal
        except steps.StepObsolete as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        except (steps.StepAlreadyStarted, steps.StepVersionConflict, steps.StepOutcomeUnknown) as refusal:
            raise RetryLater(LOOK_AGAIN, str(refusal)) from refusal

    def _send(self, task: Task, started: StartedStep) -> str:
        """No transaction is open here. Every way this can end is recorded before the engine hears of it."""
        step = started.step
        request = ProviderRequest(
            idempotency_key=started.idempotency_key,
            step_ref=steps.business_key(step.tenant_id, step.id),
            step_code=step.step_code,
            product_offering_id=started.product_offering_id,
            quantity=started.quantity,
            order_ref=str(step.order_id),
        )
        try:
            reply = self._providers[step.provider_name].execute(request)
        except ProviderUnavailableError as error:
            self._record_failure(task, started, StepEvent.FAIL_WITHOUT_EFFECT, str(error))
            raise  # nothing was sent: the retry policy of the model decides when to try again
        except ProviderContractError as error:
            return self._record_failure(task, started, StepEvent.FAIL_FINALLY, str(error))
        except ProviderOutcomeUnknownError as error:
            return self._infer_unknown(task, step, str(error))
        return self._record(task, step, EVENT_OF[reply.status], reply)

    def _record(self, task: Task, step: Row[Any], event: StepEvent, reply: ProviderReply) -> str:
        fact = RecordFact(
            step_id=step.id,
            event=event,
            source=OutcomeSource.RESPONSE,
            external_ref=reply.external_ref,
            external_request_id=reply.request_id,
            reason=reply.reason,
        )
        return self._keep(task, fact)

    def _record_failure(self, task: Task, started: StartedStep, event: StepEvent, reason: str) -> str:
        """The call itself failed: true of this attempt, and of no other."""
        return self._keep(
            task,
            RecordFact(
                step_id=started.step.id, event=event, source=OutcomeSource.RESPONSE, attempt_id=started.attempt_id, reason=reason
            ),
        )

    def _keep(self, task: Task, fact: RecordFact) -> str:
        with open_unit_of_work(self._database, task) as uow:
            _, after = fulfilling.record_fact(uow, fact)
        if after.status in steps.FINAL:
            self._evaluate(task, after.order_id)
        return str(after.status)

    def _infer_unknown(self, task: Task, step: Row[Any], reason: str, silent_for: timedelta = timedelta(0)) -> str:
        command = Infer(
            step_id=step.id,
            expected_version=step.version,
            event=StepEvent.TIME_OUT,
            source=OutcomeSource.RESPONSE,
            silent_for=silent_for,
            reason=reason,
        )
        try:
            with open_unit_of_work(self._database, task) as uow:
                status = str(fulfilling.infer(uow, command).status)
        except Refusal:
            # A callback was faster than our conclusion: what it said counts.
            return str(self._look(task).status)
        PROVIDER_UNKNOWN_OUTCOMES.labels(provider=step.provider_name).inc()
        return status

    def _evaluate(self, task: Task, order_id: UUID) -> str:
        with open_unit_of_work(self._database, task) as uow:
            return evaluating.evaluate(uow, order_id)
