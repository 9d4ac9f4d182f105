"""Records what a provider says about a step, and what we conclude from its silence.

The worker commits first and reports to the engine afterwards; the rows written here make every repeat harmless
(docs/architecture.md#facts-and-inferences).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, update

from domain import messages
from domain.delivery import attempts, steps, troubles
from domain.delivery.attempts import ATTEMPT, LIVE_STATUSES, AttemptCommand, AttemptStatus
from domain.delivery.contradictions import StepContradiction, Verdict
from domain.delivery.step_moves import EMITS, FACTS, INFERENCES
from domain.delivery.steps import SETTLED_BY_PROVIDER, STEP_MATRIX, FailureClass, FulfillmentStep, StepEvent, StepStatus
from domain.errors import InvalidTransition
from domain.fallout import triaging
from domain.store import CellKind, UnitOfWork


class OutcomeSource(StrEnum):
    """How we know of an outcome."""

    RESPONSE = "RESPONSE"
    CALLBACK = "CALLBACK"
    RECONCILIATION = "RECONCILIATION"
    HUMAN = "HUMAN"
    POLICY = "POLICY"


OF_CANCELLATION = frozenset({StepEvent.CONFIRM_CANCEL, StepEvent.REFUSE_CANCEL})
ATTEMPT_AFTER = {
    StepEvent.ACKNOWLEDGE: {AttemptCommand.EXECUTE: AttemptStatus.ACKNOWLEDGED},
    StepEvent.COMPLETE: {AttemptCommand.EXECUTE: AttemptStatus.SUCCEEDED},
    StepEvent.COMPLETE_OTHERWISE: {},
    StepEvent.FAIL_WITHOUT_EFFECT: {AttemptCommand.EXECUTE: AttemptStatus.FAILED},
    StepEvent.FAIL_FINALLY: {AttemptCommand.EXECUTE: AttemptStatus.FAILED},
    StepEvent.TIME_OUT: {AttemptCommand.EXECUTE: AttemptStatus.UNKNOWN},
    StepEvent.FIND_ABSENT: {AttemptCommand.EXECUTE: AttemptStatus.ABSENT},
    StepEvent.FIND_UNCLEAR: {AttemptCommand.EXECUTE: AttemptStatus.UNKNOWN},
    StepEvent.CONFIRM_CANCEL: {AttemptCommand.EXECUTE: AttemptStatus.FAILED, AttemptCommand.CANCEL: AttemptStatus.SUCCEEDED},
    # A provider that refuses to cancel a request has it: even if its outcome was unknown, it is under way.
    StepEvent.REFUSE_CANCEL: {AttemptCommand.EXECUTE: AttemptStatus.ACKNOWLEDGED, AttemptCommand.CANCEL: AttemptStatus.FAILED},
}
"""Event -> what it makes of the live attempts at its step, by their command."""
CLASS_OF = {
    StepEvent.TIME_OUT: FailureClass.TIME_OUT,
    StepEvent.FIND_ABSENT: FailureClass.ABSENT,
    StepEvent.FIND_UNCLEAR: FailureClass.UNCLEAR,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFact:
    """Something that the provider said about a step. Times are the provider's own clock, kept beside ours.

    `attempt_id` is given where the fact is about one attempt only ("this was never sent"), not about the provider request. `request_no` is
    the provider request of the step that the fact is about; None: the one that counts now.
    """

    step_id: UUID
    event: StepEvent
    source: OutcomeSource
    attempt_id: UUID | None = None
    request_no: int | None = None
    external_ref: str | None = None
    external_request_id: str | None = None
    external_event_id: str | None = None
    external_event_at: datetime | None = None
    failure_class: FailureClass = FailureClass.NONE
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Something that we conclude about a step from its version `expected_version`.

    FIND_ABSENT needs a request that was sent before `request_safe_interval`, TIME_OUT a worker without a sign of life for
    `attempt_stale_after` (zero: the worker itself gives up).
    """

    step_id: UUID
    expected_version: int
    event: StepEvent
    source: OutcomeSource
    request_safe_interval: timedelta = timedelta(0)
    attempt_stale_after: timedelta = timedelta(0)
    reason: str | None = None

    @property
    def failure_class(self) -> FailureClass:
        return CLASS_OF[self.event]


def record_fact(uow: UnitOfWork, command: RecordFact) -> tuple[CellKind, Row[Any]]:
    """Let a fact act on its step as the matrix says; returns the kind of cell and the step after it.

    Raises InvalidTransition where the matrix has no cell.
    """
    step = uow.read(FulfillmentStep, command.step_id, lock=True)
    uow.summary.note(external_request_id=command.external_request_id, external_event_id=command.external_event_id)
    if _is_over(uow, command, step):
        uow.summary.repeat("fulfillment_step", step)
        return CellKind.KEEP, step
    if _is_about_a_repeat_alone(uow, command, step):
        # The attempt before it is live again, and so is asked about: until then the step is not cancelled.
        _settle_attempts(uow, step.id, command)
        attempts.reopen_repeated(uow, step.id)
        return CellKind.KEEP, step
    command = _in_context(command, step)
    cell = STEP_MATRIX.cell(command.event, StepStatus(step.status))
    if cell is None:
        raise InvalidTransition.about(step, aggregate_type="fulfillment_step")
    if cell.kind is CellKind.CONTRADICTION:
        return cell.kind, _contradict(uow, step, command)
    if cell.kind is CellKind.MOVE:
        step = _move(uow, step, command)
    else:
        uow.summary.repeat("fulfillment_step", step)
    _settle_attempts(uow, step.id, command)
    if command.source not in {OutcomeSource.RESPONSE, OutcomeSource.POLICY} and cell.kind is CellKind.MOVE:
        notify_step(uow, step)
    return cell.kind, step


def _is_over(uow: UnitOfWork, command: RecordFact, step: Row[Any]) -> bool:
    """Whether a fact is about an attempt that was given up, or a request that a person has repaired, and so says nothing about the present one."""
    if command.attempt_id is not None and not attempts.is_live(uow, command.attempt_id):
        return True
    return command.event is not StepEvent.COMPLETE and _is_of_earlier_request(command, step)


def _is_about_a_repeat_alone(uow: UnitOfWork, command: RecordFact, step: Row[Any]) -> bool:
    """Whether a fact ends the last attempt at a step that is being cancelled, while the outcome of the attempt before it is unknown."""
    is_of_one = command.attempt_id is not None and step.status == StepStatus.CANCEL_REQUESTED
    return is_of_one and attempts.has_repeated(uow, step.id)


def _is_of_earlier_request(command: RecordFact, step: Row[Any]) -> bool:
    return command.request_no is not None and command.request_no < step.request_no


def _in_context(command: RecordFact, step: Row[Any]) -> RecordFact:
    if command.event is not StepEvent.COMPLETE:
        return command
    if _is_of_earlier_request(command, step):
        # It was rejected, and replaced by another one: whoever repaired it did not count on an effect.
        return replace(command, event=StepEvent.COMPLETE_OTHERWISE, reason=f"REQUEST_{command.request_no}_WAS_COMPLETED")
    if step.status == StepStatus.COMPLETED and command.external_ref and step.external_ref not in {None, command.external_ref}:
        return replace(command, event=StepEvent.COMPLETE_OTHERWISE)
    if step.status == StepStatus.CANCEL_REQUESTED:
        return replace(command, reason="COMPLETED_BEFORE_CANCEL")
    return command


def _move(uow: UnitOfWork, before: Row[Any], command: RecordFact) -> Row[Any]:
    target = STEP_MATRIX.targets(command.event)[before.status]
    # No event announces an acknowledgement: `StepStarted` has said already that the step is in progress.
    emits = None if command.event is StepEvent.ACKNOWLEDGE else EMITS[target]
    step = uow.apply(FACTS[command.event], command, emits=emits)
    if step.status == StepStatus.COMPLETED:
        troubles.self_heal(uow, step.id, "COMPLETED_BY_THE_PROVIDER")
    return step


def _contradict(uow: UnitOfWork, before: Row[Any], command: RecordFact) -> Row[Any]:
    """Keep both facts, and have the provider's ledger settle which holds, or a person where it cannot be asked."""
    contradiction = replace(command, failure_class=FailureClass.CONTRADICTION)
    step = uow.apply(FACTS[command.event], contradiction, emits="ContradictionRecorded")
    if step.status == StepStatus.UNKNOWN:
        _reopen_attempt(uow, step)
    provider_can_settle = (command.event, StepStatus(before.status)) in SETTLED_BY_PROVIDER and step.has_lookup
    facts = ("source", "external_ref", "external_event_id", "external_event_at", "reason")
    uow.add(
        StepContradiction,
        {
            "step_id": step.id,
            "provider_name": step.provider_name,
            "said": command.event,
            "known": before.status,
            **{name: getattr(command, name) for name in facts},
            "answer": None if provider_can_settle else Verdict.LEFT_TO_A_PERSON,
            "answered_at": None if provider_can_settle else step.updated_at,
        },
    )
    if command.event in OF_CANCELLATION:
        _settle_attempts(uow, step.id, command)
    if not provider_can_settle:
        _open_case(uow, before, step, command)
    if step.status != before.status:
        notify_step(uow, step)
    return step


def _open_case(uow: UnitOfWork, before: Row[Any], step: Row[Any], command: RecordFact) -> None:
    detail = f"{step.provider_name} says {command.event} of {step.step_code}, which is {before.status}."
    names = ("external_event_id", "external_ref", "request_no")
    evidence = {"known": before.status, **{name: getattr(command, name) for name in names}}
    is_stopped = step.status != before.status and step.status in {StepStatus.HELD, StepStatus.UNKNOWN}
    triaging.open_case(uow, troubles.of_contradiction(step, command.event, detail, evidence, stops=is_stopped))


def infer(uow: UnitOfWork, command: Infer) -> Row[Any]:
    """Act on a conclusion, if the step has not changed since. Raises the refusals of that inference."""
    before = uow.read(FulfillmentStep, command.step_id, lock=True)
    target = STEP_MATRIX.targets(command.event).get(before.status)
    step = uow.apply(INFERENCES[command.event], command, emits=EMITS[target] if target else None)
    _settle_attempts(uow, step.id, command)
    if command.source is OutcomeSource.RECONCILIATION:
        notify_step(uow, step)
    return step


def _reopen_attempt(uow: UnitOfWork, step: Row[Any]) -> None:
    """The provider has a request that was taken for absent: the outcome of its attempt is unknown again."""
    latest = update(ATTEMPT).filter_by(
        tenant_id=uow.tenant_id, step_id=step.id, command=AttemptCommand.EXECUTE, attempt_no=step.attempt_no
    )
    uow.connection.execute(latest.values(status=AttemptStatus.UNKNOWN, settled_at=None, **attempts.DUE_AT_ONCE))


def _settle_attempts(uow: UnitOfWork, step_id: UUID, command: RecordFact | Infer) -> None:
    request_id = command.external_request_id if isinstance(command, RecordFact) else None
    answered = AttemptCommand.CANCEL if command.event in OF_CANCELLATION else AttemptCommand.EXECUTE
    for attempted, status in ATTEMPT_AFTER[command.event].items():
        attempts.settle(
            uow,
            {"step_id": step_id, "command": attempted},
            status,
            outcome_source=command.source,
            reason=command.reason,
            external_request_id=func.coalesce(request_id if attempted is answered else None, ATTEMPT.c.external_request_id),
        )
        if attempted is AttemptCommand.EXECUTE and _is_word_of_provider(command):
            # Of a request that is under way, the attempt that is live says so.
            known = {"outcome_source": command.source, "reason": command.reason}
            attempts.settle_repeated(uow, step_id, AttemptStatus.FAILED if status in LIVE_STATUSES else status, **known)


def _is_word_of_provider(command: RecordFact | Infer) -> bool:
    """Whether the provider has told what became of the request, or that it never saw it."""
    if isinstance(command, Infer):
        return command.event is StepEvent.FIND_ABSENT
    return command.attempt_id is None and command.source is not OutcomeSource.POLICY


def notify_step(uow: UnitOfWork, step: Row[Any]) -> None:
    """Send the step's outcome to the process that waits for it."""
    messages.PROVIDER_CALLBACK_RECEIVED.correlate(uow, steps.business_key(uow.tenant_id, step.id), **step_variables(step))


def step_variables(step: Row[Any]) -> dict[str, Any]:
    """The state of a step as variables of its process."""
    return {
        "step_outcome": outcome_of(step.status),
        "failure_class": step.failure_class,
        "attempt_no": step.attempt_no,
        "provider_name": step.provider_name,
    }


OUTCOME = ("stepOutcome", "failureClass", "attemptNo", "providerName")
"""What `process_variables` tells a process."""


def process_variables(step: Row[Any]) -> dict[str, Any]:
    """A step's outcome in the words of its process; the rules about failures decide by them."""
    return {
        "stepOutcome": outcome_of(step.status),
        "failureClass": step.failure_class,
        "attemptNo": step.attempt_no,
        "providerName": step.provider_name,
    }


def policy_facts(step: Row[Any]) -> dict[str, Any]:
    """The inputs of DMN `fallout-policy`."""
    return {"stepCode": step.step_code, **process_variables(step)}


def outcome_of(status: str) -> str:
    """A step's state in the words of its process (`stepOutcome`)."""
    words = {StepStatus.PENDING: "WAITING", StepStatus.IN_PROGRESS: "ACCEPTED", StepStatus.CANCEL_REQUESTED: "ACCEPTED"}
    return words.get(StepStatus(status), status)
