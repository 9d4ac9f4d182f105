"""Callbacks: events that providers send to us. Each is recorded before it acts, under its id, so it acts at most once.

A callback is a fact: an event that cannot be applied is kept as well, with its status (docs/domain.md#callbacks-and-contradictions).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Connection, Index, Row, and_, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from domain.delivery import attempts, troubles
from domain.delivery.fulfilling import OutcomeSource, RecordFact, record_fact
from domain.delivery.steps import STEP, FailureClass, StepEvent
from domain.errors import Conflict, SafeAction, UnknownTenantError
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.store import Base, CellKind, Outcome, Owned, UnitOfWork, append_only, check_in, is_one_of, table_of
from domain.store.idempotency import request_hash

_REFERENCE = re.compile(r"step:([0-9a-fA-F-]{36}):(.+)")


class ProcessedStatus(StrEnum):
    """What a callback did: changed the step, changed nothing, contradicted what is known, or matched no step."""

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    NO_EFFECT = "NO_EFFECT"
    CONTRADICTION = "CONTRADICTION"
    UNMATCHED = "UNMATCHED"


class ProviderConflict(Conflict):
    """This event id was delivered before with another content."""

    safe_action = SafeAction.NOTHING_TO_DO


class ExternalCallbackRecord(Base):
    """An event as it came first. The primary key is the claim: a repeat finds it, and does not act."""

    __tablename__ = "external_callback_record"
    __table_args__ = (
        check_in("processed_status", ProcessedStatus),
        Index(
            "ix_external_callback_record_unmatched",
            "received_at",
            postgresql_where=text("processed_status = 'UNMATCHED' AND step_id IS NOT NULL"),
        ),
        # For retention, which also deletes those that name no step and can never match.
        Index("ix_external_callback_record_unmatched_old", "received_at", postgresql_where=text("processed_status = 'UNMATCHED'")),
        Index("ix_external_callback_record_step", "tenant_id", "step_id"),
        Index(
            "ix_external_callback_record_old",
            "received_at",
            postgresql_where=text("payload IS NOT NULL AND processed_status <> 'UNMATCHED'"),
        ),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider_name: Mapped[str] = mapped_column(primary_key=True)
    external_event_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    payload_hash: Mapped[str]
    processed_status: Mapped[str]
    event_type: Mapped[str]
    external_event_at: Mapped[datetime | None]
    step_id: Mapped[UUID | None]
    # None: the payload was old and is deleted; its hash still finds a repeat.
    payload: Mapped[dict[str, Any] | None]


class ExternalCallbackConflict(Owned, Base):
    """The same event id with another content: kept, never applied."""

    __tablename__ = "external_callback_conflict"
    __table_args__ = (Index("ix_external_callback_conflict_event", "tenant_id", "provider_name", "external_event_id"),)
    provider_name: Mapped[str]
    external_event_id: Mapped[str]
    first_hash: Mapped[str]
    second_hash: Mapped[str]
    payload: Mapped[dict[str, Any]]


append_only(ExternalCallbackConflict)
RECORD = table_of(ExternalCallbackRecord)

EVENTS = {
    "step.accepted": StepEvent.ACKNOWLEDGE,
    "step.completed": StepEvent.COMPLETE,
    "step.rejected": StepEvent.FAIL_FINALLY,
    "step.cancelled": StepEvent.CONFIRM_CANCEL,
    "step.cancel_refused": StepEvent.REFUSE_CANCEL,
}
PROCESSED = {
    CellKind.MOVE: ProcessedStatus.APPLIED,
    CellKind.KEEP: ProcessedStatus.NO_EFFECT,
    CellKind.CONTRADICTION: ProcessedStatus.CONTRADICTION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveCallback:
    """An event as the provider sent it, its signature already checked. `step_id` is None when it names no step of ours."""

    provider_name: str
    external_event_id: str
    event_type: str
    step_id: UUID | None
    external_ref: str | None
    external_request_id: str | None
    external_event_at: datetime | None
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What became of a callback. `order_id` is the order to evaluate next, if its step has changed."""

    processed_status: ProcessedStatus
    replayed: bool = False
    conflict: bool = False
    order_id: UUID | None = None


def receive(uow: UnitOfWork, command: ReceiveCallback) -> Received:
    """Record the event and let it act; an event that cannot be applied is kept with its status. Raises UnknownTenantError."""
    uow.summary.note(
        aggregate_type="fulfillment_step", aggregate_id=command.step_id, external_request_id=command.external_request_id
    )
    digest = request_hash(command.payload)
    identity = {
        "tenant_id": uow.tenant_id,
        "provider_name": command.provider_name,
        "external_event_id": command.external_event_id,
    }
    row = {
        **identity,
        "payload_hash": digest,
        "processed_status": ProcessedStatus.RECEIVED,
        **{name: getattr(command, name) for name in ("event_type", "external_event_at", "step_id", "payload")},
    }
    claimed = insert(RECORD).on_conflict_do_nothing().returning(RECORD.c.external_event_id)
    if uow.connection.execute(claimed, row).one_or_none() is None:
        return _repeated(uow, command, identity, digest)
    status, order_id = _act(uow, command)
    uow.connection.execute(update(RECORD).filter_by(**identity).values(processed_status=status))
    return Received(processed_status=status, order_id=order_id)


def _repeated(uow: UnitOfWork, command: ReceiveCallback, identity: dict[str, Any], digest: str) -> Received:
    first = uow.connection.execute(select(*RECORD.c).filter_by(**identity)).one()
    status = ProcessedStatus(first.processed_status)
    if first.payload_hash == digest:
        uow.summary.note(Outcome.REPLAYED)
        return Received(processed_status=status, replayed=True)
    row = {
        "tenant_id": uow.tenant_id,
        # One row for each content: its id follows from what it says, so a repeat finds it.
        "id": uuid5(NAMESPACE_OID, f"{command.provider_name} {command.external_event_id} {digest}"),
        "provider_name": command.provider_name,
        "external_event_id": command.external_event_id,
        "first_hash": first.payload_hash,
        "second_hash": digest,
        "payload": command.payload,
    }
    uow.connection.execute(insert(table_of(ExternalCallbackConflict)).on_conflict_do_nothing(), row)
    step = _own_step(uow, replace(command, step_id=first.step_id))
    triaging.open_case(
        uow, troubles.of_callback(FalloutType.PROVIDER_CONFLICT, _as_evidence(command), "came twice with different content", step)
    )
    uow.flag_conflict(ProviderConflict(aggregate_type="fulfillment_step", aggregate_id=first.step_id))
    return Received(processed_status=status, conflict=True)


def unmatched_after(connection: Connection, last: tuple[datetime, str] | None, limit: int) -> list[Row[Any]]:
    """Callbacks that matched no step, in the order in which they came, from the one after `last` on.

    `order_id` is that of the provider's step when it is there by now, otherwise None.
    """
    is_its_step = and_(
        STEP.c.tenant_id == RECORD.c.tenant_id, STEP.c.id == RECORD.c.step_id, STEP.c.provider_name == RECORD.c.provider_name
    )
    query = (
        select(*RECORD.c, STEP.c.order_id)
        .outerjoin(STEP, is_its_step)
        .where(is_one_of(RECORD.c.processed_status, ProcessedStatus.UNMATCHED), RECORD.c.step_id.is_not(None))
        .order_by(RECORD.c.received_at, RECORD.c.external_event_id)
    )
    if last is not None:
        query = query.where(tuple_(RECORD.c.received_at, RECORD.c.external_event_id) > last)
    return list(connection.execute(query.limit(limit)))


def match(uow: UnitOfWork, provider_name: str, external_event_id: str) -> bool:
    """Let an unmatched callback act on the step that has turned up, as it would have acted when it came; its case ends.

    Returns False when it acts on nothing, still or already.
    """
    identity = {"tenant_id": uow.tenant_id, "provider_name": provider_name, "external_event_id": external_event_id}
    row = uow.one(select(*RECORD.c).filter_by(**identity).with_for_update(), "The callback")
    acted = _apply(uow, _command_of(row)) if row.processed_status == ProcessedStatus.UNMATCHED else None
    if acted is None:
        return False
    uow.connection.execute(update(RECORD).filter_by(**identity).values(processed_status=PROCESSED[acted[0]]))
    triaging.close(uow, troubles.key_of_callback(FalloutType.UNSOLICITED_CALLBACK, provider_name, external_event_id), "MATCHED")
    return True


def _command_of(row: Row[Any]) -> ReceiveCallback:
    columns = ("provider_name", "external_event_id", "event_type", "step_id", "external_event_at", "payload")
    return ReceiveCallback(
        **{name: getattr(row, name) for name in columns},
        external_ref=row.payload.get("externalRef"),
        external_request_id=row.payload.get("requestId"),
    )


def _act(uow: UnitOfWork, command: ReceiveCallback) -> tuple[ProcessedStatus, UUID | None]:
    acted = _apply(uow, command)
    if acted is None:
        return _unmatched(uow, command)
    kind, step = acted
    return PROCESSED[kind], None if kind is CellKind.KEEP else step.order_id


def _apply(uow: UnitOfWork, command: ReceiveCallback) -> tuple[CellKind, Row[Any]] | None:
    """Record the fact at its step; None when there is no step that it can be about."""
    event, step = EVENTS.get(command.event_type), _own_step(uow, command)
    if step is None or event is None:
        return None
    request_no = attempts.request_named(uow, step, command.external_request_id)
    if request_no is None and event is StepEvent.FAIL_FINALLY:
        request_no = step.request_no - 1  # an earlier request was rejected: most likely it is this one that is told of again
    names = ("external_ref", "external_request_id", "external_event_id", "external_event_at")
    failure = FailureClass.REJECTED if event is StepEvent.FAIL_FINALLY else FailureClass.NONE
    fact = RecordFact(
        step_id=step.id,
        event=event,
        source=OutcomeSource.CALLBACK,
        request_no=request_no,
        failure_class=failure,
        **{name: getattr(command, name) for name in names},
    )
    return record_fact(uow, fact)


def _own_step(uow: UnitOfWork, command: ReceiveCallback) -> Row[Any] | None:
    """The step that an event names. A valid signature proves who sends; a provider may still speak only about its own steps."""
    own = {"tenant_id": uow.tenant_id, "id": command.step_id, "provider_name": command.provider_name}
    return uow.connection.execute(select(*STEP.c).filter_by(**own)).one_or_none()


def _unmatched(uow: UnitOfWork, command: ReceiveCallback) -> tuple[ProcessedStatus, None]:
    # A tenant without any step may be one that does not exist: nobody would see the case.
    if uow.connection.scalar(select(STEP.c.id).filter_by(tenant_id=uow.tenant_id).limit(1)) is None:
        raise UnknownTenantError
    step = _own_step(uow, command)
    names = (
        "belongs to no step of this provider"
        if step is None
        else f"names step {step.step_code} and is of a type that we do not know"
    )
    case = troubles.of_callback(FalloutType.UNSOLICITED_CALLBACK, _as_evidence(command), names)
    # The order leads people to the case. Its step would make it the case of that step, which another trouble may need.
    triaging.open_case(uow, replace(case, order_id=step.order_id if step is not None else None))
    return ProcessedStatus.UNMATCHED, None


def _as_evidence(command: ReceiveCallback) -> dict[str, Any]:
    return {name: getattr(command, name) for name in ("provider_name", "external_event_id", "event_type", "payload")}


def step_named_by(reference: str) -> tuple[UUID, UUID | None] | None:
    """Tenant and step of a provider's reference. None: it is no reference to a step; a step that cannot be one of ours is None."""
    found = _REFERENCE.fullmatch(reference)
    tenant_id = _uuid(found[1]) if found else None
    return (tenant_id, _uuid(found[2])) if found and tenant_id else None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
