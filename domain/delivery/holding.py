"""Gives a step to a person: by the rules of the model, or because what a person has decided about it holds no more."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact, infer, record_fact
from domain.delivery.steps import FailureClass, FulfillmentStep, StepEvent, StepStatus
from domain.store import UnitOfWork

FORGOTTEN = "THE_PROVIDER_MAY_HAVE_FORGOTTEN_THE_KEY"


def hold(uow: UnitOfWork, step_id: UUID, reason: str) -> Row[Any]:
    """Give up: a step that is RETRYABLE or UNKNOWN becomes HELD. Any other is left as it is, and one that a person has just released."""
    step = uow.read(FulfillmentStep, step_id, lock=True)
    if step.failure_class == FailureClass.RELEASED:
        return step
    if step.status == StepStatus.RETRYABLE:
        return _hold(uow, step, FailureClass(step.failure_class), reason)
    if step.status == StepStatus.UNKNOWN:
        conclusion = Infer(
            step_id=step_id,
            expected_version=step.version,
            event=StepEvent.FIND_UNCLEAR,
            source=OutcomeSource.POLICY,
            reason=reason,
        )
        return infer(uow, conclusion)
    return step


def take_back_release(uow: UnitOfWork, step_id: UUID) -> Row[Any]:
    """Hold a step that a person has let be sent again: the provider may have forgotten its key since, and would carry it out twice."""
    step = uow.read(FulfillmentStep, step_id, lock=True)
    return _hold(uow, step, FailureClass.UNCLEAR, FORGOTTEN) if step.status == StepStatus.RETRYABLE else step


def _hold(uow: UnitOfWork, step: Row[Any], failure_class: FailureClass, reason: str) -> Row[Any]:
    end = RecordFact(
        step_id=step.id,
        event=StepEvent.FAIL_FINALLY,
        source=OutcomeSource.POLICY,
        failure_class=failure_class,
        reason=reason,
    )
    return record_fact(uow, end)[1]
