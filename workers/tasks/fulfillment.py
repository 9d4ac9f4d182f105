"""Topics of `fulfillment-step` and `cancel-step`: execute a step, cancel it, read its outcome, end it as failed.

`fulfillment.execute-step` claims the step, sends the request under a stable key outside any transaction, and records the reply. An outcome
that is not known is recorded as UNKNOWN; reconciliation asks the provider, and nothing is sent again blindly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, holding, orders, reading, resolving, starting, steps, taking_up
from domain.delivery.attempts import AttemptStatus
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.starting import StartedCancellation, StartedStep, StartStep
from domain.delivery.steps import FailureClass, StepEvent, StepStatus
from domain.errors import Refusal
from domain.retry_rules import ORDER_NOT_RUNNING, STEP_ELSEWHERE
from domain.workflows.keys import BusinessKey, Kind
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
from workers.runtime.engine import Engine
from workers.runtime.metrics import PROVIDER_UNKNOWN_OUTCOMES, STEP_DUPLICATE_EXECUTIONS_PREVENTED
from workers.runtime.variables import Variable
from workers.tasks.commands import evaluate_order, open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.rules import the_only_row

EVENT_OF = {
    ReplyStatus.ACCEPTED: StepEvent.ACKNOWLEDGE,
    ReplyStatus.COMPLETED: StepEvent.COMPLETE,
    ReplyStatus.REJECTED: StepEvent.FAIL_FINALLY,
}
CANCEL_EVENT_OF = {ReplyStatus.COMPLETED: StepEvent.CONFIRM_CANCEL, ReplyStatus.REJECTED: StepEvent.REFUSE_CANCEL}
BY_POLICY = "FAILED_BY_POLICY"
POLICY, FAIL = "fallout-policy", "FAIL"
STARTABLE = (StepStatus.PENDING, StepStatus.RETRYABLE)


class Fulfillment:
    """The handlers. `attempt_stale_after`: a worker without a sign of life for so long counts as dead."""

    def __init__(
        self, database: Database, engine: Engine, providers: Mapping[str, Provider], attempt_stale_after: timedelta
    ) -> None:
        self._database = database
        self._engine = engine
        self._providers = providers
        self._attempt_stale_after = attempt_stale_after

    @topic("fulfillment.check-readiness", Kind.STEP, sets=("readiness",))
    def check_readiness(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read whether the step's predecessors are done."""
        with open_unit_of_work(self._database, task, key) as uow:
            return {"readiness": taking_up.readiness(uow, key.id)}

    @topic("fulfillment.check-outcome", Kind.STEP, sets=fulfilling.OUTCOME)
    def check_outcome(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read the step's outcome from the domain; only reconciliation asks the provider."""
        with open_unit_of_work(self._database, task, key) as uow:
            return fulfilling.process_variables(taking_up.step(uow, key.id))

    @topic("fulfillment.fail-step", Kind.STEP, sets=fulfilling.OUTCOME)
    def fail(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """End the step as failed without asking a person, when the rules still say so; otherwise the process decides again."""
        step = self._read(task, key)
        if step.status not in steps.FINAL:
            if self._action(task, step) != FAIL:
                return fulfilling.process_variables(step)
            with open_unit_of_work(self._database, task, key) as uow:
                step = holding.hold(uow, key.id, BY_POLICY)
                if step.status == StepStatus.HELD:
                    step = resolving.decide_step(uow, step, StepEvent.RESOLVE_FAIL, reason=BY_POLICY)
        evaluate_order(self._database, task, key, step.order_id)
        return fulfilling.process_variables(step)

    def heartbeat(self, task: Task, key: BusinessKey) -> None:
        """Write a sign of life of this worker to its attempt."""
        with open_unit_of_work(self._database, task, key) as uow:
            starting.heartbeat(uow, task.id, task.worker_id)

    @topic(
        "fulfillment.execute-step",
        Kind.STEP,
        sets=fulfilling.OUTCOME,
        errors=(steps.StepObsolete.code,),
        asks_provider=True,
        heartbeat=heartbeat,
    )
    def execute(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the step, once."""
        with open_unit_of_work(self._database, task, key) as uow:
            step = taking_up.step(uow, key.id)
            if step.status not in STARTABLE:
                uow.summary.repeat("fulfillment_step", step)
        if step.status not in STARTABLE:
            return fulfilling.process_variables(self._known_to_another(task, key, step))
        send_until = self._send_until()
        started = self._start(task, key, step)
        if started is None:
            return fulfilling.process_variables(self._read(task, key))
        return fulfilling.process_variables(self._send(task, key, started, send_until))

    @topic("fulfillment.cancel-step", Kind.STEP, sets=fulfilling.OUTCOME, asks_provider=True, heartbeat=heartbeat)
    def cancel(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Ask the provider to cancel the step, once, unless the outcome is known already."""
        step = self._read(task, key)
        if step.status != StepStatus.CANCEL_REQUESTED:
            return fulfilling.process_variables(step)
        command = StartStep(step_id=step.id, expected_version=step.version, worker_id=task.worker_id, external_task_id=task.id)
        send_until = self._send_until()
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                started = starting.start_cancellation(uow, command)
        except (steps.StepObsolete, steps.StepAlreadyStarted, starting.StepNotCancellable):
            # Settled meanwhile, or sent before: the process waits for the reply, and reconciliation asks about it.
            return fulfilling.process_variables(self._read(task, key))
        return fulfilling.process_variables(self._send_cancellation(task, key, started, send_until))

    def _action(self, task: Task, step: Row[Any]) -> object:
        return the_only_row(self._engine, task, POLICY, fulfilling.policy_facts(step))["falloutAction"]

    def _read(self, task: Task, key: BusinessKey) -> Row[Any]:
        with open_unit_of_work(self._database, task, key) as uow:
            return reading.step(uow, key.id)

    def _known_to_another(self, task: Task, key: BusinessKey, step: Row[Any]) -> Row[Any]:
        """The step was started before, by a worker that still carries it out, that died, or that is done."""
        STEP_DUPLICATE_EXECUTIONS_PREVENTED.labels(command=task.topic).inc()
        if step.status != StepStatus.IN_PROGRESS or step.attempt_status == "ACKNOWLEDGED":
            return step
        if step.seconds_since_heartbeat < self._attempt_stale_after.total_seconds():
            raise RetryLater.by(STEP_ELSEWHERE, f"worker {step.worker_id} is carrying out this step")
        return self._infer_unknown(task, key, step, "the worker gave no sign of life", self._attempt_stale_after)

    def _start(self, task: Task, key: BusinessKey, step: Row[Any]) -> StartedStep | None:
        command = StartStep(step_id=step.id, expected_version=step.version, worker_id=task.worker_id, external_task_id=task.id)
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                return starting.start_step(uow, command)
        except steps.PredecessorOpen:
            return None
        except orders.OrderNotRunning as refusal:
            if refusal.current_status in orders.FINAL:
                raise BpmnError(steps.StepObsolete.code, str(refusal)) from refusal
            raise RetryLater.by(ORDER_NOT_RUNNING, f"the order is {refusal.current_status}") from refusal
        except steps.StepObsolete as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        except steps.StepOutcomeUnknown as refusal:
            if refusal.current_status != StepStatus.RETRYABLE:
                raise RetryLater.by(STEP_ELSEWHERE, str(refusal)) from refusal
            with open_unit_of_work(self._database, task, key) as uow:
                holding.take_back_release(uow, step.id)
            return None
        except (steps.StepAlreadyStarted, steps.StepVersionConflict) as refusal:
            raise RetryLater.by(STEP_ELSEWHERE, str(refusal)) from refusal

    def _send_until(self) -> float:
        """Until when a request that is started now may leave, by the monotonic clock.

        What is conclusive about a silent worker rests on this: its request has arrived when the worker counts as dead, or never leaves. The
        second half of that time is for the call itself (`workers.providers.budget`).
        """
        return time.monotonic() + self._attempt_stale_after.total_seconds() / 2

    def _send(self, task: Task, key: BusinessKey, started: StartedStep, send_until: float) -> Row[Any]:
        """Send the request while no transaction is open; every outcome is recorded before the engine is told."""
        step = started.step
        request = ProviderRequest(
            idempotency_key=started.idempotency_key,
            step_ref=steps.business_key(step.tenant_id, step.id),
            step_code=step.step_code,
            product_offering_id=started.product_offering_id,
            quantity=started.quantity,
            order_ref=str(step.order_id),
            compensates=started.compensates,
            instructions=started.instructions,
        )
        attempt = RecordFact(
            step_id=step.id, event=StepEvent.FAIL_WITHOUT_EFFECT, source=OutcomeSource.RESPONSE, attempt_id=started.attempt_id
        )
        try:
            _require_time(send_until)
            reply = self._providers[step.provider_name].execute(request)
        except ProviderUnavailableError as error:
            # A fact of this attempt alone: nothing of it was sent. An earlier attempt may have had its effect.
            self._keep(task, key, replace(attempt, failure_class=FailureClass.UNAVAILABLE, reason=str(error)))
            raise  # the retry policy of the model decides when the next attempt comes
        except ProviderContractError as error:
            refused = replace(attempt, event=StepEvent.FAIL_FINALLY, failure_class=FailureClass.CONTRACT, reason=str(error))
            return self._keep(task, key, refused)
        except ProviderOutcomeUnknownError as error:
            return self._infer_unknown(task, key, step, str(error))
        return self._keep(task, key, _fact(step, EVENT_OF[reply.status], reply))

    def _send_cancellation(self, task: Task, key: BusinessKey, started: StartedCancellation, send_until: float) -> Row[Any]:
        step = started.step
        request = CancelRequest(
            idempotency_key=started.idempotency_key,
            request_key=started.request_key,
            step_ref=steps.business_key(step.tenant_id, step.id),
        )
        try:
            _require_time(send_until)
            reply = self._providers[step.provider_name].cancel(request)
        except ProviderUnavailableError:
            self._record_cancellation_status(task, key, started, AttemptStatus.ABSENT)
            raise
        except ProviderContractError as error:
            self._record_cancellation_status(task, key, started, AttemptStatus.FAILED)
            raise GiveUp(str(error)) from error
        except ProviderOutcomeUnknownError:
            return self._read(task, key)  # reconciliation asks what became of the cancellation
        if reply is None:
            # The provider has not seen the request that is to be cancelled, which may still be on its way: ask again.
            self._record_cancellation_status(task, key, started, AttemptStatus.ABSENT)
            return self._read(task, key)
        if reply.status is ReplyStatus.ACCEPTED:
            self._record_cancellation_status(task, key, started, AttemptStatus.ACKNOWLEDGED)
            return self._read(task, key)
        return self._keep(task, key, _fact(step, CANCEL_EVENT_OF[reply.status], reply))

    def _record_cancellation_status(
        self, task: Task, key: BusinessKey, started: StartedCancellation, status: AttemptStatus
    ) -> None:
        with open_unit_of_work(self._database, task, key) as uow:
            starting.record_cancellation_status(uow, started.attempt_id, status)

    def _keep(self, task: Task, key: BusinessKey, fact: RecordFact) -> Row[Any]:
        with open_unit_of_work(self._database, task, key) as uow:
            _, after = fulfilling.record_fact(uow, fact)
        if after.status in steps.FINAL | {StepStatus.HELD}:
            evaluate_order(self._database, task, key, after.order_id)
        return after

    def _infer_unknown(
        self, task: Task, key: BusinessKey, step: Row[Any], reason: str, attempt_stale_after: timedelta = timedelta(0)
    ) -> Row[Any]:
        command = Infer(
            step_id=step.id,
            expected_version=step.version,
            event=StepEvent.TIME_OUT,
            source=OutcomeSource.RESPONSE,
            attempt_stale_after=attempt_stale_after,
            reason=reason,
        )
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                after = fulfilling.infer(uow, command)
        except Refusal:
            # A callback was faster than our inference: a fact counts more.
            return self._read(task, key)
        PROVIDER_UNKNOWN_OUTCOMES.labels(provider=step.provider_name).inc()
        return after


def _require_time(send_until: float) -> None:
    if time.monotonic() > send_until:
        raise ProviderUnavailableError("nothing was sent: this worker stood still for so long that it may count as dead")


def _fact(step: Row[Any], event: StepEvent, reply: ProviderReply) -> RecordFact:
    return RecordFact(
        step_id=step.id,
        event=event,
        source=OutcomeSource.RESPONSE,
        request_no=step.request_no,
        external_ref=reply.external_ref,
        external_request_id=reply.request_id,
        failure_class=FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE,
        reason=reply.reason,
    )
