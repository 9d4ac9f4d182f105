"""Topics of `fulfillment-step` and `cancel-step`: execute, cancel, look, give up.

`execute-step` is where the lesson's sections 16 and 21 live: claim the step, send with a stable key outside any transaction, record what came
back. What is not known is recorded as UNKNOWN and asked for later, never sent again blindly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import evaluating, fulfilling, orders, reading, resolving, starting, steps
from domain.delivery.attempts import AttemptStatus
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.starting import StartedCancellation, StartedStep, StartStep
from domain.delivery.steps import FailureClass, StepEvent, StepStatus
from domain.errors import Refusal
from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task
from workers.providers.port import (
    CancelRequest,
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

# Somebody else is at it, or the order is on hold: look again soon, without using up an attempt.
LOOK_AGAIN = timedelta(seconds=2)
EVENT_OF = {
    ReplyStatus.ACCEPTED: StepEvent.ACKNOWLEDGE,
    ReplyStatus.COMPLETED: StepEvent.COMPLETE,
    ReplyStatus.REJECTED: StepEvent.FAIL_FINALLY,
}
CANCEL_EVENT_OF = {ReplyStatus.COMPLETED: StepEvent.CONFIRM_CANCEL, ReplyStatus.REJECTED: StepEvent.REFUSE_CANCEL}
BY_POLICY = "FAILED_BY_POLICY"
STARTABLE = (StepStatus.PENDING, StepStatus.RETRYABLE)


class Fulfillment:
    """The handlers. `attempt_stale_after`: a worker that gave no sign of life for so long is taken for dead."""

    def __init__(self, database: Database, providers: Mapping[str, Provider], attempt_stale_after: timedelta) -> None:
        self._database = database
        self._providers = providers
        self._attempt_stale_after = attempt_stale_after

    def check_readiness(self, task: Task) -> dict[str, Variable]:
        """Ask the domain whether the step's predecessors are done."""
        with open_unit_of_work(self._database, task) as uow:
            return {"readiness": reading.readiness(uow, task.uuid("stepId"))}

    def check_outcome(self, task: Task) -> dict[str, Variable]:
        """Ask the domain how the step stands; reconciliation is who asks the provider."""
        return _told(self._look(task))

    def fail(self, task: Task) -> dict[str, Variable]:
        """End a step that cannot be done, as the model's rules say: in place of a person."""
        with open_unit_of_work(self._database, task) as uow:
            step = fulfilling.hold(uow, task.uuid("stepId"), BY_POLICY)
            if step.status == StepStatus.HELD:
                step = resolving.decide_step(uow, step, StepEvent.RESOLVE_FAIL, reason=BY_POLICY)
        self._evaluate(task, step.order_id)
        return _told(step)

    def heartbeat(self, task: Task) -> None:
        """Tell the domain that this worker is still at its attempt."""
        with open_unit_of_work(self._database, task) as uow:
            starting.heartbeat(uow, task.id, task.worker_id)

    def execute(self, task: Task) -> dict[str, Variable]:
        """Carry out the step, once."""
        step = self._look(task)
        if step.status not in STARTABLE:
            return _told(self._known_to_another(task, step))
        started = self._start(task, step)
        return _told(self._look(task) if started is None else self._send(task, started))

    def cancel(self, task: Task) -> dict[str, Variable]:
        """Ask the provider to cancel the step, once; what came of it may be known already."""
        step = self._look(task)
        if step.status != StepStatus.CANCEL_REQUESTED:
            return _told(step)
        command = StartStep(step_id=step.id, expected_version=step.version, worker_id=task.worker_id, external_task_id=task.id)
        try:
            with open_unit_of_work(self._database, task) as uow:
                started = starting.start_cancellation(uow, command)
        except (steps.StepObsolete, steps.StepAlreadyStarted, starting.StepNotCancellable):
            # Settled meanwhile, or asked for before: its answer is waited for, and asked about by reconciliation.
            return _told(self._look(task))
        return _told(self._send_cancellation(task, started))

    def _look(self, task: Task) -> Row[Any]:
        with open_unit_of_work(self._database, task) as uow:
            return reading.step(uow, task.uuid("stepId"))

    def _known_to_another(self, task: Task, step: Row[Any]) -> Row[Any]:
        """The step was started before: by a worker that is still at it, that died, or that is done."""
        STEP_DUPLICATE_EXECUTIONS_PREVENTED.labels(command=task.topic).inc()
        if step.status != StepStatus.IN_PROGRESS or step.attempt_status == "ACKNOWLEDGED":
            return step
        if step.seconds_since_heartbeat < self._attempt_stale_after.total_seconds():
            raise RetryLater(LOOK_AGAIN, f"worker {step.worker_id} is carrying out this step")
        return self._infer_unknown(task, step, "the worker gave no sign of life", self._attempt_stale_after)

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

    def _send(self, task: Task, started: StartedStep) -> Row[Any]:
        """No transaction is open here. Every way this can end is recorded before the engine hears of it."""
        step = started.step
        request = ProviderRequest(
            idempotency_key=started.idempotency_key,
            step_ref=steps.business_key(step.tenant_id, step.id),
            step_code=step.step_code,
            product_offering_id=started.product_offering_id,
            quantity=started.quantity,
            order_ref=str(step.order_id),
            compensates=started.compensates,
        )
        attempt = RecordFact(
            step_id=step.id, event=StepEvent.FAIL_WITHOUT_EFFECT, source=OutcomeSource.RESPONSE, attempt_id=started.attempt_id
        )
        try:
            reply = self._providers[step.provider_name].execute(request)
        except ProviderUnavailableError as error:
            # True of this attempt, and of no other: nothing of it was sent.
            self._keep(task, replace(attempt, failure_class=FailureClass.UNAVAILABLE, reason=str(error)))
            raise  # the retry policy of the model decides when to try again
        except ProviderContractError as error:
            refused = replace(attempt, event=StepEvent.FAIL_FINALLY, failure_class=FailureClass.CONTRACT, reason=str(error))
            return self._keep(task, refused)
        except ProviderOutcomeUnknownError as error:
            return self._infer_unknown(task, step, str(error))
        return self._keep(task, _fact(step, EVENT_OF[reply.status], reply))

    def _send_cancellation(self, task: Task, started: StartedCancellation) -> Row[Any]:
        step = started.step
        request = CancelRequest(
            idempotency_key=started.idempotency_key,
            request_key=started.request_key,
            step_ref=steps.business_key(step.tenant_id, step.id),
        )
        try:
            reply = self._providers[step.provider_name].cancel(request)
        except ProviderUnavailableError:
            self._note_cancellation(task, started, AttemptStatus.ABSENT)
            raise
        except ProviderContractError as error:
            self._note_cancellation(task, started, AttemptStatus.FAILED)
            raise GiveUp(str(error)) from error
        except ProviderOutcomeUnknownError:
            return self._look(task)  # reconciliation asks what became of it
        if reply is None:
            # It has not seen the request that is to be cancelled, which may still be on its way: ask again.
            self._note_cancellation(task, started, AttemptStatus.ABSENT)
            return self._look(task)
        if reply.status is ReplyStatus.ACCEPTED:
            self._note_cancellation(task, started, AttemptStatus.ACKNOWLEDGED)
            return self._look(task)
        return self._keep(task, _fact(step, CANCEL_EVENT_OF[reply.status], reply))

    def _note_cancellation(self, task: Task, started: StartedCancellation, status: AttemptStatus) -> None:
        with open_unit_of_work(self._database, task) as uow:
            starting.note_cancellation(uow, started.attempt_id, status)

    def _keep(self, task: Task, fact: RecordFact) -> Row[Any]:
        with open_unit_of_work(self._database, task) as uow:
            _, after = fulfilling.record_fact(uow, fact)
        if after.status in steps.FINAL | {StepStatus.HELD}:
            self._evaluate(task, after.order_id)
        return after

    def _infer_unknown(self, task: Task, step: Row[Any], reason: str, attempt_stale_after: timedelta = timedelta(0)) -> Row[Any]:
        command = Infer(
            step_id=step.id,
            expected_version=step.version,
            event=StepEvent.TIME_OUT,
            source=OutcomeSource.RESPONSE,
            attempt_stale_after=attempt_stale_after,
            reason=reason,
        )
        try:
            with open_unit_of_work(self._database, task) as uow:
                after = fulfilling.infer(uow, command)
        except Refusal:
            # A callback was faster than our conclusion: what it said counts.
            return self._look(task)
        PROVIDER_UNKNOWN_OUTCOMES.labels(provider=step.provider_name).inc()
        return after

    def _evaluate(self, task: Task, order_id: UUID) -> None:
        with open_unit_of_work(self._database, task) as uow:
            evaluating.evaluate(uow, order_id)


def _fact(step: Row[Any], event: StepEvent, reply: ProviderReply) -> RecordFact:
    return RecordFact(
        step_id=step.id,
        event=event,
        source=OutcomeSource.RESPONSE,
        external_ref=reply.external_ref,
        external_request_id=reply.request_id,
        failure_class=FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE,
        reason=reply.reason,
    )


def _told(step: Row[Any]) -> dict[str, Variable]:
    """How a step stands, in the variables of its process."""
    return {
        "stepOutcome": fulfilling.outcome_of(step.status),
        "failureClass": step.failure_class,
        "attemptNo": step.attempt_no,
        "providerName": step.provider_name,
    }
