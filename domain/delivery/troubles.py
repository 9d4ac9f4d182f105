"""The troubles of delivery as fallout cases: a held step, a contradiction, an order that cannot be planned.

`fallout` knows no step, so this module writes the facts about a step into its case. The key names the trouble: while its case is open, the
same trouble opens no second case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.delivery.steps import FailureClass, StepEvent, StepKind
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.fallout.triaging import OpenCase
from domain.store import UnitOfWork

TYPE_OF_FAILURE: Mapping[FailureClass, FalloutType] = {
    FailureClass.REJECTED: FalloutType.PROVIDER_REJECTED,
    FailureClass.CONTRACT: FalloutType.DATA_INVALID,
    FailureClass.UNCLEAR: FalloutType.OUTCOME_UNKNOWN,
    FailureClass.TIME_OUT: FalloutType.OUTCOME_UNKNOWN,
    FailureClass.CONTRADICTION: FalloutType.CONTRADICTORY_CALLBACK,
}


def held_step_key(step_id: UUID) -> str:
    """The key of the trouble that a step is held, for whatever reason."""
    return f"held:{step_id}"


def of_held_step(step: Row[Any]) -> OpenCase:
    """The case of a held step."""
    by_failure = TYPE_OF_FAILURE.get(FailureClass(step.failure_class), FalloutType.TECHNICAL)
    return OpenCase(
        type=FalloutType.COMPENSATION_FAILED if step.kind == StepKind.COMPENSATE else by_failure,
        dedupe_key=held_step_key(step.id),
        detail=f"{step.step_code} is held ({step.failure_class}): {step.final_reason or 'no reason was given'}.",
        order_id=step.order_id,
        step_id=step.id,
        evidence={"failure_class": step.failure_class, "attempt_no": step.attempt_no},
    )


def of_contradiction(step: Row[Any], said: StepEvent, detail: str, evidence: Mapping[str, Any], *, stops: bool = False) -> OpenCase:
    """The case of a contradiction. `stops`: the contradiction stops the step, so this is the case of the held step."""
    return OpenCase(
        type=FalloutType.CONTRADICTORY_CALLBACK,
        dedupe_key=held_step_key(step.id) if stops else f"contradiction:{step.id}:{said}",
        detail=detail,
        order_id=step.order_id,
        step_id=step.id,
        evidence={"said": said, **evidence},
    )


def key_of_callback(kind: FalloutType, provider_name: str, external_event_id: str) -> str:
    """The key of the trouble with a provider's event."""
    return f"{kind}:{provider_name}:{external_event_id}"


def of_callback(kind: FalloutType, event: Mapping[str, Any], detail: str, step: Row[Any] | None = None) -> OpenCase:
    """The case of a provider's event that cannot act. `event` has its provider, id, type and payload; `step` is the step that it names, if any."""
    provider, event_id = event["provider_name"], event["external_event_id"]
    return OpenCase(
        type=kind,
        dedupe_key=key_of_callback(kind, provider, event_id),
        detail=f"Event {event_id} ({event['event_type']}) of {provider} {detail}.",
        order_id=step.order_id if step is not None else None,
        step_id=step.id if step is not None else None,
        evidence={name: value for name, value in event.items() if name != "provider_name"},
    )


def of_failed_decomposition(order_id: UUID, detail: str) -> OpenCase:
    """The case of an order whose steps cannot be planned."""
    return OpenCase(type=FalloutType.DECOMPOSITION_FAILED, dedupe_key=f"decomposition:{order_id}", detail=detail, order_id=order_id)


def self_heal(uow: UnitOfWork, step_id: UUID, resolution: str) -> None:
    """Resolve the case of a held step that goes on without a person's help."""
    triaging.self_heal(uow, held_step_key(step_id), resolution)


def cancel_cases(uow: UnitOfWork, step_id: UUID) -> None:
    """Cancel the case of a held step whose order is being cancelled."""
    triaging.cancel_cases(uow, held_step_key(step_id))
