"""Carrying out steps: record what a provider said of one, and what we conclude from its silence.

Commit first, then tell the engine: what is stored here makes every repeat harmless (the lesson, sections 12, 16 and 23).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, text, update

from domain.delivery import steps, troubles
from domain.delivery.attempts import LIVE, LIVE_STATUSES, AttemptStatus, ProviderAttempt
from domain.delivery.contradictions import Answer, StepContradiction
from domain.delivery.step_moves import ATTEMPT, EMITS, FACTS, INFERENCES
from domain.delivery.steps import ASKED_ABOUT, STEP_MATRIX, FailureClass, FulfillmentStep, StepEvent, StepStatus
from domain.errors import InvalidTransition
from domain.fallout import triaging
from domain.store import Effect, UnitOfWork
from domain.store.facts import WorkflowCommandKind
from domain.workflows import requests


class OutcomeSource(StrEnum):
    """How we know."""

    RESPONSE = "RESPONSE"
    CALLBACK = "CALLBACK"
    RECONCILIATION = "RECONCILIATION"
    HUMAN = "HUMAN"


A, E = AttemptStatus, StepEvent
OF_CANCELLATION = frozenset({E.CONFIRM_CANCEL, E.REFUSE_CANCEL})
ATTEMPT_AFTER = {
    E.ACKNOWLEDGE: {"EXECUTE": A.ACKNOWLEDGED},
    E.COMPLETE: {"EXECUTE": A.SUCCEEDED},
    E.COMPLETE_OTHERWISE: {},
    E.FAIL_WITHOUT_EFFECT: {"EXECUTE": A.FAILED},
    E.FAIL_FINALLY: {"EXECUTE": A.FAILED},
    E.TIME_OUT: {"EXECUTE": A.UNKNOWN},
    E.FIND_ABSENT: {"EXECUTE": A.ABSENT},
    E.FIND_UNCLEAR: {"EXECUTE": A.UNKNOWN},
    E.CONFIRM_CANCEL: {"EXECUTE": A.FAILED, "CANCEL": A.SUCCEEDED},
    # Who refuses to cancel a request knows it: whatever was unclear about it, it is under way.
    E.REFUSE_CANCEL: {"EXECUTE": A.ACKNOWLEDGED, "CANCEL": A.FAILED},
}
"""What an event says of the live attempts at its step, by their command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFact:
    """Something the provider said about a step. Times are the provider's own clock, kept beside ours.

    `attempt_id` is given where the fact is about one attempt only ("nothing of this was sent"), not about the step's key.
    """

    step_id: UUID
    event: StepEvent
    source: OutcomeSource
    attempt_id: UUID | None = None
    external_ref: str | None = None
    external_request_id: str | None = None
    external_event_id: str | None = None
    external_event_at: datetime | None = None
    failure_class: FailureClass = FailureClass.NONE
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Something concluded about a step from its version `expected_version`.

    `request_safe_interval` counts for FIND_ABSENT: how long ago the request was sent. `attempt_stale_after` counts for TIME_OUT: how long
    its worker has given no sign of life (zero: the worker itself gives up).
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


CLASS_OF = {E.TIME_OUT: FailureClass.TIME_OUT, E.FIND_ABSENT: FailureClass.ABSENT, E.FIND_UNCLEAR: FailureClass.UNCLEAR}


def record_fact(uow: UnitOfWork, command: RecordFact) -> tuple[Effect, Row[Any]]:
    """Let a fact act on its step as the matrix says; returns the effect and the step after it.

    Raises InvalidTransition where the matrix has no cell.
    """
    step = uow.read(FulfillmentStep, command.step_id, lock=True)
    if command.attempt_id is not None and not _is_live(uow, command.attempt_id):
        return Effect.KEEP, step  # it was given up meanwhile: what became of it says nothing about the one that is live now
    command = _in_context(command, step)
    cell = STEP_MATRIX.cell(command.event, StepStatus(step.status))
    if cell is None:
        raise InvalidTransition(aggregate_type="fulfillment_step", aggregate_id=step.id, current_status=step.status)
    if cell.effect is Effect.CONTRADICTION:
        return cell.effect, _contradict(uow, step, command)
    if cell.effect is Effect.MOVE:
        step = _move(uow, step, command)
    _settle_attempts(uow, step.id, command)
    if command.source is not OutcomeSource.RESPONSE and cell.effect is Effect.MOVE:
        tell_step(uow, step)
    return cell.effect, step


def _in_context(command: RecordFact, step: Row[Any]) -> RecordFact:
    if command.event is not StepEvent.COMPLETE:
        return command
    if step.status == StepStatus.COMPLETED and command.external_ref and step.external_ref not in {None, command.external_ref}:
        return replace(command, event=StepEvent.COMPLETE_OTHERWISE)
    if step.status == StepStatus.CANCEL_REQUESTED:
        return replace(command, reason="COMPLETED_BEFORE_CANCEL")
    return command


def _move(uow: UnitOfWork, before: Row[Any], command: RecordFact) -> Row[Any]:
    target = STEP_MATRIX.targets(command.event)[before.status]
    # An acknowledgement tells nobody anything new.
    emits = None if command.event is StepEvent.ACKNOWLEDGE else EMITS[target]
    step = uow.apply(FACTS[command.event], command, emits=emits)
    if step.status == StepStatus.COMPLETED:
        troubles.self_heal(uow, step.id, "COMPLETED_BY_THE_PROVIDER")
    return step


def _contradict(uow: UnitOfWork, before: Row[Any], command: RecordFact) -> Row[Any]:
    """Keep both facts, and have somebody find out which holds: the provider's ledger where it can tell, otherwise a person."""
    held = replace(command, failure_class=FailureClass.CONTRADICTION)
    step = uow.apply(FACTS[command.event], held, emits="ContradictionRecorded")
    if step.status == StepStatus.UNKNOWN:
        _reopen_attempt(uow, step)
    is_asked = (command.event, StepStatus(before.status)) in ASKED_ABOUT and step.has_lookup
    facts = ("source", "external_ref", "external_event_id", "external_event_at", "reason")
    uow.add(
        StepContradiction,
        {
            "step_id": step.id,
            "said": command.event,
            "known": before.status,
            **{name: getattr(command, name) for name in facts},
            "answer": None if is_asked else Answer.LEFT_TO_A_PERSON,
            "answered_at": None if is_asked else step.updated_at,
        },
    )
    if command.event in OF_CANCELLATION:
        _settle_attempts(uow, step.id, command)
    if not is_asked:
        _call_a_person(uow, before, step, command)
    if step.status != before.status:
        tell_step(uow, step)
    return step


def _call_a_person(uow: UnitOfWork, before: Row[Any], step: Row[Any], command: RecordFact) -> None:
    detail = f"{step.provider_name} says {command.event} of {step.step_code}, which is {before.status}."
    evidence = {"known": before.status, "external_event_id": command.external_event_id}
    is_stopped = step.status in {StepStatus.HELD, StepStatus.UNKNOWN}
    triaging.open_case(uow, troubles.of_contradiction(step, command.event, detail, evidence, stops=is_stopped))


def infer(uow: UnitOfWork, command: Infer) -> Row[Any]:
    """Act on a conclusion, if nothing has changed since. Raises the refusals of that inference."""
    before = uow.read(FulfillmentStep, command.step_id, lock=True)
    target = STEP_MATRIX.targets(command.event).get(before.status)
    step = uow.apply(INFERENCES[command.event], command, emits=EMITS[target] if target else None)
    _settle_attempts(uow, step.id, command)
    if command.source is OutcomeSource.RECONCILIATION:
        tell_step(uow, step)
    return step


def hold(uow: UnitOfWork, step_id: UUID, reason: str) -> Row[Any]:
    """Stop trying, or asking: a step whose attempts have failed or are not known becomes HELD. Any other is left as it is."""
    step = uow.read(FulfillmentStep, step_id, lock=True)
    if step.status == StepStatus.RETRYABLE:
        failure = FailureClass(step.failure_class)
        fact = RecordFact(
            step_id=step_id, event=E.FAIL_FINALLY, source=OutcomeSource.RESPONSE, failure_class=failure, reason=reason
        )
        return record_fact(uow, fact)[1]
    if step.status == StepStatus.UNKNOWN:
        conclusion = Infer(
            step_id=step_id, expected_version=step.version, event=E.FIND_UNCLEAR, source=OutcomeSource.RESPONSE, reason=reason
        )
        return infer(uow, conclusion)
    return step


def _is_live(uow: UnitOfWork, attempt_id: UUID) -> bool:
    return uow.read(ProviderAttempt, attempt_id).status in LIVE_STATUSES


def _reopen_attempt(uow: UnitOfWork, step: Row[Any]) -> None:
    """The provider knows of a request that was taken for absent: its attempt is asked about again."""
    latest = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step.id, command="EXECUTE", attempt_no=step.attempt_no)
    uow.connection.execute(latest.values(status=AttemptStatus.UNKNOWN, settled_at=None))


def _settle_attempts(uow: UnitOfWork, step_id: UUID, command: RecordFact | Infer) -> None:
    request_id = command.external_request_id if isinstance(command, RecordFact) else None
    for attempted, status in ATTEMPT_AFTER[command.event].items():
        live = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step_id, command=attempted).where(text(LIVE))
        values = {
            "status": status,
            "outcome_source": command.source,
            "reason": command.reason,
            "settled_at": None if status in LIVE_STATUSES else func.clock_timestamp(),
        }
        uow.connection.execute(live.values(**values, external_request_id=func.coalesce(request_id, ATTEMPT.c.external_request_id)))


def tell_step(uow: UnitOfWork, step: Row[Any]) -> None:
    """Wake the process that waits for this step's outcome."""
    key = steps.business_key(uow.tenant_id, step.id)
    uow.ask_engine(WorkflowCommandKind.CORRELATE, "ProviderCallbackReceived", key, told(step), requests.MESSAGE_MATTERS)


def told(step: Row[Any]) -> dict[str, Any]:
    """How a step stands, as its process takes it."""
    return {
        "step_outcome": outcome_of(step.status),
        "failure_class": step.failure_class,
        "attempt_no": step.attempt_no,
        "provider_name": step.provider_name,
    }


def outcome_of(status: str) -> str:
    """A step's state in the words of its process (`stepOutcome`)."""
    words = {StepStatus.PENDING: "WAITING", StepStatus.IN_PROGRESS: "ACCEPTED", StepStatus.CANCEL_REQUESTED: "ACCEPTED"}
    return words.get(StepStatus(status), status)
