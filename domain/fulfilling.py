"""Carrying out steps: start each once, record what came of it, evaluate the whole order.

Commit first, then tell the engine: what is stored here makes every repeat harmless (the lesson, sections 12, 16 and 23).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import TIMESTAMP, Row, Text, and_, case, exists, func, select, text, update
from sqlalchemy.dialects.postgresql import INTERVAL

from domain import steps, workflows
from domain.errors import Conflict, InvalidTransition, SafeAction
from domain.steps import (
    DONE,
    LIVE,
    LIVE_STATUSES,
    STEP_MATRIX,
    AttemptStatus,
    FulfillmentStep,
    FulfillmentStepDependency,
    ProviderAttempt,
    StepEvent,
    StepStatus,
    StepVersionConflict,
)
from domain.store import Effect, Guard, Move, UnitOfWork, is_one_of, param, table_of
from domain.store.facts import WorkflowCommandKind

STEP, DEPENDENCY, ATTEMPT = (table_of(entity) for entity in (FulfillmentStep, FulfillmentStepDependency, ProviderAttempt))
PREDECESSOR = STEP.alias("predecessor")


class AbsenceNotProven(Conflict):
    """The request may still be on its way: too little time has passed since it was sent."""

    safe_action = SafeAction.NOTHING_TO_DO


class AttemptAlive(Conflict):
    """The attempt was acknowledged, or its worker gave a sign of life."""

    safe_action = SafeAction.NOTHING_TO_DO


class OutcomeSource(StrEnum):
    """How we know."""

    RESPONSE = "RESPONSE"
    CALLBACK = "CALLBACK"
    RECONCILIATION = "RECONCILIATION"


# Done is final: a look without a lock can only err on the safe side.
HAS_OPEN_PREDECESSOR = exists(
    select(PREDECESSOR.c.id)
    .join(DEPENDENCY, and_(DEPENDENCY.c.tenant_id == PREDECESSOR.c.tenant_id, DEPENDENCY.c.depends_on_step_id == PREDECESSOR.c.id))
    .where(DEPENDENCY.c.tenant_id == STEP.c.tenant_id, DEPENDENCY.c.step_id == STEP.c.id, ~is_one_of(PREDECESSOR.c.status, *DONE))
)
ABSENCE_PROVEN = exists(
    select(ATTEMPT.c.id).where(
        ATTEMPT.c.tenant_id == STEP.c.tenant_id,
        ATTEMPT.c.step_id == STEP.c.id,
        text(f"provider_attempt.{LIVE}"),
        ATTEMPT.c.sent_at < func.clock_timestamp() - param("safe_interval", INTERVAL()),
    )
)
# Sound because `infer` locks the step first: whoever acknowledges an attempt holds the step's row. A sign of life holds nothing; one that
# comes in the same moment is missed, and the step is asked about although its worker lives.
ATTEMPT_SILENT = exists(
    select(ATTEMPT.c.id).where(
        ATTEMPT.c.tenant_id == STEP.c.tenant_id,
        ATTEMPT.c.step_id == STEP.c.id,
        ATTEMPT.c.status == AttemptStatus.SENT,
        ATTEMPT.c.heartbeat_at <= func.clock_timestamp() - param("silent_for", INTERVAL()),
    )
)
VERSION = Guard(StepVersionConflict, FulfillmentStep.version == param("expected_version"))


def _unless_final(column: Any, said: Any) -> Any:
    # What ended a step stays its evidence; what contradicts it later has its callback record.
    return case((is_one_of(FulfillmentStep.status, *steps.FINAL), column), else_=func.coalesce(said, column))


EVIDENCE = {
    FulfillmentStep.external_ref: func.coalesce(FulfillmentStep.external_ref, param("external_ref")),
    FulfillmentStep.external_event_id: _unless_final(FulfillmentStep.external_event_id, param("external_event_id", Text())),
    FulfillmentStep.external_event_at: _unless_final(
        FulfillmentStep.external_event_at, param("external_event_at", TIMESTAMP(timezone=True))
    ),
    FulfillmentStep.final_reason: _unless_final(FulfillmentStep.final_reason, param("reason", Text())),
}
FACTS = {
    StepEvent.ACKNOWLEDGE: Move(FulfillmentStep, STEP_MATRIX, StepEvent.ACKNOWLEDGE),
    StepEvent.COMPLETE: Move(
        FulfillmentStep,
        STEP_MATRIX,
        StepEvent.COMPLETE,
        sets={**EVIDENCE, FulfillmentStep.external_complete_received_at: func.clock_timestamp()},
        emits="StepCompleted",
    ),
    StepEvent.FAIL_WITHOUT_EFFECT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.FAIL_WITHOUT_EFFECT, sets=EVIDENCE, emits="StepRetryable"
    ),
    StepEvent.FAIL_FINALLY: Move(FulfillmentStep, STEP_MATRIX, StepEvent.FAIL_FINALLY, sets=EVIDENCE, emits="StepHeld"),
}
"""Facts hold at any version: no version guard; the matrix decides what they mean."""
INFERENCES = {
    StepEvent.TIME_OUT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.TIME_OUT, VERSION, Guard(AttemptAlive, ATTEMPT_SILENT), emits="StepOutcomeUnknown"
    ),
    StepEvent.FIND_ABSENT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.FIND_ABSENT, Guard(AbsenceNotProven, ABSENCE_PROVEN), VERSION, emits="StepRetryable"
    ),
    StepEvent.FIND_UNCLEAR: Move(FulfillmentStep, STEP_MATRIX, StepEvent.FIND_UNCLEAR, VERSION, emits="StepHeld"),
}
"""Inferences are drawn from a version that was read, and lose to whatever changed it since."""
ATTEMPT_AFTER = {
    StepEvent.ACKNOWLEDGE: AttemptStatus.ACKNOWLEDGED,
    StepEvent.COMPLETE: AttemptStatus.SUCCEEDED,
    StepEvent.FAIL_WITHOUT_EFFECT: AttemptStatus.FAILED,
    StepEvent.FAIL_FINALLY: AttemptStatus.FAILED,
    StepEvent.TIME_OUT: AttemptStatus.UNKNOWN,
    StepEvent.FIND_ABSENT: AttemptStatus.ABSENT,
    StepEvent.FIND_UNCLEAR: AttemptStatus.UNKNOWN,
}


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
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Infer:
    """Something concluded about a step from its version `expected_version`.

    `safe_interval` counts for FIND_ABSENT: how long ago the request was sent. `silent_for` counts for TIME_OUT: how long its worker
    has given no sign of life (zero: the worker itself gives up).
    """

    step_id: UUID
    expected_version: int
    event: StepEvent
    source: OutcomeSource
    safe_interval: timedelta = timedelta(0)
    silent_for: timedelta = timedelta(0)
    reason: str | None = None


def record_fact(uow: UnitOfWork, command: RecordFact) -> tuple[Effect, Row[Any]]:
    """Let a fact act on its step as the matrix says; returns the effect and the step after it.

    Raises InvalidTransition where the matrix has no cell.
    """
    step = uow.read(FulfillmentStep, command.step_id, lock=True)
    if command.attempt_id is not None and not _is_live(uow, command.attempt_id):
        return Effect.KEEP, step  # it was given up meanwhile: what became of it says nothing about the one that is live now
    cell = STEP_MATRIX.cell(command.event, StepStatus(step.status))
    if cell is None:
        raise InvalidTransition(aggregate_type="fulfillment_step", aggregate_id=step.id, current_status=step.status)
    if cell.effect is Effect.CONTRADICTION:
        step = uow.apply(FACTS[command.event], command, emits="ContradictionRecorded")
        if step.status == StepStatus.UNKNOWN:
            _reopen_attempt(uow, step)
        return cell.effect, step
    if cell.effect is Effect.MOVE:
        step = uow.apply(FACTS[command.event], command)
    _settle_attempt(uow, step.id, command)
    if command.source is not OutcomeSource.RESPONSE and cell.effect is Effect.MOVE:
        tell_step(uow, step)
    return cell.effect, step


def infer(uow: UnitOfWork, command: Infer) -> Row[Any]:
    """Act on a conclusion, if nothing has changed since. Raises the refusals of that inference."""
    uow.read(FulfillmentStep, command.step_id, lock=True)
    step = uow.apply(INFERENCES[command.event], command)
    _settle_attempt(uow, step.id, command)
    if command.source is OutcomeSource.RECONCILIATION:
        tell_step(uow, step)
    return step


def _is_live(uow: UnitOfWork, attempt_id: UUID) -> bool:
    return uow.read(ProviderAttempt, attempt_id).status in LIVE_STATUSES


def _reopen_attempt(uow: UnitOfWork, step: Row[Any]) -> None:
    """The provider knows of a request that was taken for absent: its attempt is asked about again."""
    latest = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step.id, command="EXECUTE", attempt_no=step.attempt_no)
    uow.connection.execute(latest.values(status=AttemptStatus.UNKNOWN))


def _settle_attempt(uow: UnitOfWork, step_id: UUID, command: RecordFact | Infer) -> None:
    request_id = command.external_request_id if isinstance(command, RecordFact) else None
    live = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step_id, command="EXECUTE").where(text(LIVE))
    values = {"status": ATTEMPT_AFTER[command.event], "outcome_source": command.source, "reason": command.reason}
    uow.connection.execute(live.values(**values, external_request_id=func.coalesce(request_id, ATTEMPT.c.external_request_id)))


def tell_step(uow: UnitOfWork, step: Row[Any]) -> None:
    """Wake the process that waits for this step's outcome."""
    key = steps.business_key(uow.tenant_id, step.id)
    uow.ask_engine(
        WorkflowCommandKind.CORRELATE,
        "ProviderCallbackReceived",
        key,
        {"step_outcome": outcome_of(step.status)},
        workflows.MESSAGE_MATTERS,
    )


def outcome_of(status: str) -> str:
    """A step's state in the words of its process (`stepOutcome`)."""
    words = {StepStatus.PENDING: "WAITING", StepStatus.IN_PROGRESS: "ACCEPTED", StepStatus.CANCEL_REQUESTED: "ACCEPTED"}
    return words.get(StepStatus(status), status)
