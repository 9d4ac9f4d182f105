"""The troubles of delivery as fallout cases: a held step, a contradiction, an order that cannot be planned.

`fallout` knows no step, so this module writes the facts about a step into its case. The key names the trouble: while its case is open, the
same trouble opens no second case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, case, exists, func, select

from domain.delivery.steps import FailureClass, StepEvent, StepKind
from domain.fallout import triaging
from domain.fallout.cases import FINAL, FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.store import UnitOfWork, is_one_of, table_of
from domain.store.claims import Groups, fairly
from domain.store.facts import OutboxEvent, OutboxStatus
from domain.store.leases import is_free

TYPE_OF_FAILURE: Mapping[FailureClass, FalloutType] = {
    FailureClass.REJECTED: FalloutType.PROVIDER_REJECTED,
    FailureClass.CONTRACT: FalloutType.DATA_INVALID,
    FailureClass.UNCLEAR: FalloutType.OUTCOME_UNKNOWN,
    FailureClass.TIME_OUT: FalloutType.OUTCOME_UNKNOWN,
    FailureClass.CONTRADICTION: FalloutType.CONTRADICTORY_CALLBACK,
}
OF_EVENT = "event:"
OF_HELD_STEP = "held:"
EVENT = table_of(OutboxEvent)


def held_step_key(step_id: UUID) -> str:
    """The key of the trouble that a step is held, for whatever reason."""
    return f"{OF_HELD_STEP}{step_id}"


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
    key = key_of_failed_decomposition(order_id)
    return OpenCase(type=FalloutType.DECOMPOSITION_FAILED, dedupe_key=key, detail=detail, order_id=order_id)


def key_of_failed_decomposition(order_id: UUID) -> str:
    """What the cases of an order that cannot be planned have in common."""
    return f"decomposition:{order_id}"


def refused_without_case(connection: Connection, limit: int) -> list[Row[Any]]:
    """The first refused event of every aggregate that has one, and no open case about it; `order_id` is set for the events of an order."""
    key = func.concat(OF_EVENT, EVENT.c.aggregate_id)
    has_case = exists().where(CASE.c.tenant_id == EVENT.c.tenant_id, CASE.c.dedupe_key == key, ~is_one_of(CASE.c.status, *FINAL))
    is_of_order = EVENT.c.aggregate_type == "sales_order"
    query = select(*EVENT.c, case((is_of_order, EVENT.c.aggregate_id)).label("order_id")).where(
        ~_has_refused_before(), ~has_case, is_free("refused-event", EVENT)
    )
    groups = Groups(by=(EVENT.c.tenant_id,), among="status = 'REFUSED'")
    return list(connection.execute(select(fairly(query, groups, EVENT.c.position, limit))))


def _has_refused_before() -> ColumnElement[bool]:
    c = EVENT.alias("earlier").c
    same = (c.tenant_id == EVENT.c.tenant_id) & (c.aggregate_id == EVENT.c.aggregate_id) & (c.position < EVENT.c.position)
    return exists().where(same, is_one_of(c.status, OutboxStatus.REFUSED))


def of_refused_event(event: Row[Any]) -> OpenCase:
    """The case of an event that Kafka has refused for too long."""
    return OpenCase(
        type=FalloutType.TECHNICAL,
        dedupe_key=f"{OF_EVENT}{event.aggregate_id}",
        detail=f"Kafka does not take {event.event_type} of {event.aggregate_type} {event.aggregate_id}: {event.last_reason}",
        order_id=event.order_id,
        evidence={
            "tried": f"send {event.event_type} to {event.topic}",
            "event_id": event.id,
            "aggregate_version": event.aggregate_version,
            "times": event.attempts,
            "since": event.refused_since,
            "last_reason": event.last_reason,
        },
    )


def aggregate_of(dedupe_key: str) -> UUID | None:
    """The aggregate whose event a case is about; None for a case about anything else."""
    return UUID(dedupe_key.removeprefix(OF_EVENT)) if dedupe_key.startswith(OF_EVENT) else None


def self_heal(uow: UnitOfWork, step_id: UUID, resolution: str) -> None:
    """Resolve the case of a held step that goes on without a person's help."""
    triaging.self_heal(uow, held_step_key(step_id), resolution)


def cancel_cases(uow: UnitOfWork, step_id: UUID) -> None:
    """Cancel the case of a held step whose order is being cancelled."""
    triaging.cancel_cases(uow, held_step_key(step_id))
