"""Every way a step changes: facts that a provider states, inferences that we draw, cancellations, and what people decide.

A *fact* holds at any version; the matrix decides what it means. An *inference*, or a person's decision, names the version it was drawn
from, and loses to whatever changed the step since (docs/architecture.md#facts-and-inferences).
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import TIMESTAMP, Text, and_, case, exists, func, literal_column, select, text
from sqlalchemy.dialects.postgresql import INTERVAL

from domain.delivery import steps
from domain.delivery.attempts import ATTEMPT, LIVE, UNCERTAIN, AttemptCommand, AttemptStatus
from domain.delivery.steps import (
    DEPENDENCY,
    DONE,
    STEP,
    STEP_MATRIX,
    FailureClass,
    FulfillmentStep,
    StepEvent,
    StepStatus,
    StepVersionConflict,
)
from domain.errors import Conflict, SafeAction
from domain.store import Guard, Move, is_one_of, param

PREDECESSOR = STEP.alias("predecessor")


class AbsenceNotProven(Conflict):
    """The request may still be on its way: too little time has passed since it was sent."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.NOTHING_TO_DO


class AttemptAlive(Conflict):
    """The provider has acknowledged the attempt, or its worker has given a sign of life."""

    safe_action = SafeAction.NOTHING_TO_DO


class ResolutionNotAllowed(Conflict):
    """This resolution does not fit what is known of the step."""

    aggregate = "fulfillment_step"
    safe_action = SafeAction.CORRECT_THE_REQUEST


EMITS = {
    StepStatus.IN_PROGRESS: "StepStarted",
    StepStatus.UNKNOWN: "StepOutcomeUnknown",
    StepStatus.RETRYABLE: "StepRetryable",
    StepStatus.HELD: "StepHeld",
    StepStatus.CANCEL_REQUESTED: "StepCancellationRequested",
    StepStatus.COMPLETED: "StepCompleted",
    StepStatus.CANCELLED: "StepCancelled",
    StepStatus.SKIPPED: "StepSkipped",
    StepStatus.FAILED: "StepFailed",
}
"""The event that announces a step's new state."""


def _attempts(*conditions: Any) -> Any:
    return exists(
        select(ATTEMPT.c.id).where(
            ATTEMPT.c.tenant_id == STEP.c.tenant_id,
            ATTEMPT.c.step_id == STEP.c.id,
            ATTEMPT.c.command == AttemptCommand.EXECUTE,
            *conditions,
        )
    )


NOW = func.clock_timestamp()


def _has_predecessor(condition: Any) -> Any:
    joined = and_(DEPENDENCY.c.tenant_id == PREDECESSOR.c.tenant_id, DEPENDENCY.c.depends_on_step_id == PREDECESSOR.c.id)
    of_step = (DEPENDENCY.c.tenant_id == STEP.c.tenant_id, DEPENDENCY.c.step_id == STEP.c.id)
    return exists(select(PREDECESSOR.c.id).join(DEPENDENCY, joined).where(*of_step, condition))


# Sound without a lock: a step that is done stays done, so this can only find a predecessor open that has just been done.
HAS_OPEN_PREDECESSOR = _has_predecessor(~is_one_of(PREDECESSOR.c.status, *DONE))
# Nothing will start such a step: an evaluation of its order cancels it.
HAS_LOST_PREDECESSOR = _has_predecessor(is_one_of(PREDECESSOR.c.status, *(steps.FINAL - set(DONE))))
# Sound, like the next ones, because the step is locked first: a transaction that changes an attempt's status has locked its step.
ABSENCE_PROVEN = _attempts(text(f"provider_attempt.{LIVE}"), ATTEMPT.c.sent_at < NOW - param("request_safe_interval", INTERVAL()))
# A heartbeat locks no step: one that is written in the same moment is missed, and the provider is asked although the worker lives.
ATTEMPT_SILENT = _attempts(
    ATTEMPT.c.status == AttemptStatus.SENT, ATTEMPT.c.heartbeat_at <= NOW - param("attempt_stale_after", INTERVAL())
)
ATTEMPT_LIVE = _attempts(text(f"provider_attempt.{LIVE}"))
MAY_HAVE_ACTED = _attempts(text(f"provider_attempt.{UNCERTAIN}"))
# A repeat does no harm: no attempt may have had its effect, or the provider still recognises the key.
REPEATABLE = ~MAY_HAVE_ACTED | (
    FulfillmentStep.idempotent
    & ~_attempts(ATTEMPT.c.sent_at < NOW - STEP.c.key_window_seconds * literal_column("interval '1 second'"))
)
EXPECTED_VERSION = Guard(StepVersionConflict, FulfillmentStep.version == param("expected_version"))


def _unless_final(column: Any, said: Any) -> Any:
    # The evidence of a step that is final stays; a later contradiction has a row of its own.
    return case((is_one_of(FulfillmentStep.status, *steps.FINAL), column), else_=func.coalesce(said, column))


EVIDENCE = {
    FulfillmentStep.external_event_id: _unless_final(FulfillmentStep.external_event_id, param("external_event_id", Text())),
    FulfillmentStep.external_event_at: _unless_final(
        FulfillmentStep.external_event_at, param("external_event_at", TIMESTAMP(timezone=True))
    ),
    FulfillmentStep.final_reason: _unless_final(FulfillmentStep.final_reason, param("reason", Text())),
}
WHY = {FulfillmentStep.failure_class: param("failure_class", Text())}
RECEIVED = {
    FulfillmentStep.external_ref: func.coalesce(FulfillmentStep.external_ref, param("external_ref")),
    FulfillmentStep.external_complete_received_at: func.coalesce(FulfillmentStep.external_complete_received_at, NOW),
}


FACTS = {
    StepEvent.ACKNOWLEDGE: Move(FulfillmentStep, STEP_MATRIX, StepEvent.ACKNOWLEDGE, sets=WHY),
    StepEvent.COMPLETE: Move(FulfillmentStep, STEP_MATRIX, StepEvent.COMPLETE, sets=WHY | EVIDENCE | RECEIVED),
    # It has a row of its own, and changes nothing of the step.
    StepEvent.COMPLETE_OTHERWISE: Move(FulfillmentStep, STEP_MATRIX, StepEvent.COMPLETE_OTHERWISE),
    **{
        event: Move(FulfillmentStep, STEP_MATRIX, event, sets=WHY | EVIDENCE)
        for event in (
            StepEvent.FAIL_WITHOUT_EFFECT,
            StepEvent.FAIL_FINALLY,
            StepEvent.CONFIRM_CANCEL,
            StepEvent.REFUSE_CANCEL,
        )
    },
}
"""Facts hold at any version: no version guard; the matrix decides what they mean."""
INFERENCES = {
    StepEvent.TIME_OUT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.TIME_OUT, EXPECTED_VERSION, Guard(AttemptAlive, ATTEMPT_SILENT), sets=WHY
    ),
    StepEvent.FIND_ABSENT: Move(
        FulfillmentStep, STEP_MATRIX, StepEvent.FIND_ABSENT, Guard(AbsenceNotProven, ABSENCE_PROVEN), EXPECTED_VERSION, sets=WHY
    ),
    StepEvent.FIND_UNCLEAR: Move(FulfillmentStep, STEP_MATRIX, StepEvent.FIND_UNCLEAR, EXPECTED_VERSION, sets=WHY),
}
"""Inferences name the version they were drawn from, and lose to whatever changed the step since."""
REASON = {FulfillmentStep.final_reason: param("reason", Text())}
CANCELLATIONS = {
    event: Move(FulfillmentStep, STEP_MATRIX, event, sets={**REASON, FulfillmentStep.cancel_requested_at: NOW})
    for event in (StepEvent.CANCEL, StepEvent.CANCEL_RELEASED)
}
UNFIT = dict.fromkeys(StepStatus, ResolutionNotAllowed)
RELEASED = literal_column(f"'{FailureClass.RELEASED.value}'", Text())
DECISIONS = {
    StepEvent.RESOLVE_RETRY: Move(
        FulfillmentStep,
        STEP_MATRIX,
        StepEvent.RESOLVE_RETRY,
        EXPECTED_VERSION,
        Guard(ResolutionNotAllowed, REPEATABLE),
        sets={**REASON, FulfillmentStep.failure_class: RELEASED},
        illegal=UNFIT,
    ),
    # The new request has a key of its own, so the provider cannot recognise an effect of the old one, which must be known to have none.
    StepEvent.RESOLVE_REPAIRED: Move(
        FulfillmentStep,
        STEP_MATRIX,
        StepEvent.RESOLVE_REPAIRED,
        EXPECTED_VERSION,
        Guard(ResolutionNotAllowed, ~MAY_HAVE_ACTED),
        sets={
            **REASON,
            FulfillmentStep.failure_class: RELEASED,
            FulfillmentStep.request_no: FulfillmentStep.request_no + 1,
            FulfillmentStep.request_changes: param("request_changes", STEP.c.request_changes.type),
        },
        illegal=UNFIT,
    ),
    StepEvent.RESOLVE_COMPLETED: Move(
        FulfillmentStep,
        STEP_MATRIX,
        StepEvent.RESOLVE_COMPLETED,
        EXPECTED_VERSION,
        sets={**REASON, FulfillmentStep.external_ref: param("external_ref", Text())},
        illegal=UNFIT,
    ),
    **{
        event: Move(FulfillmentStep, STEP_MATRIX, event, EXPECTED_VERSION, sets=REASON, illegal=UNFIT)
        for event in (StepEvent.RESOLVE_SKIP, StepEvent.RESOLVE_CANCEL, StepEvent.RESOLVE_FAIL)
    },
}
"""What a person, or the policy, decides on a held step."""
