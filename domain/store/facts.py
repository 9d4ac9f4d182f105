"""What a transaction writes besides its change: transition log, outbox, workflow commands, conflict log.

Only the unit of work writes them, in the transaction of the change; a refused command leaves nothing but its row in the conflict log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, CheckConstraint, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Refusal
from domain.store.base import Aggregate, Base, Owned, append_only
from domain.store.matrix import Matrix

TOPICS = {
    "quote": "cpq.quote.v1",
    "approval_request": "cpq.approval.v1",
    "approval_requirement": "cpq.approval.v1",
    "price_book_head": "cpq.pricebook.v1",
    "sales_order": "oms.order.v1",
    "fulfillment_step": "oms.fulfillment.v1",
    "jeopardy_alert": "oms.fulfillment.v1",
    "fallout_case": "oms.fallout.v1",
}
"""Kafka topic of each aggregate; the key is the aggregate's id, so one aggregate's events stay in one partition."""


class TransitionLog(Owned, Base):
    """Each change of state, and everything needed to explain it (docs/domain.md#refusals-logs-and-metrics)."""

    __tablename__ = "transition_log"
    __table_args__ = (
        UniqueConstraint("tenant_id", "aggregate_type", "aggregate_id", "aggregate_version"),
        Index("ix_transition_log_commands", "created_at", "id", postgresql_where=text("aggregate_type = 'workflow_command'")),
    )
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[UUID]
    aggregate_version: Mapped[int] = mapped_column(BigInteger)
    transition_from: Mapped[str | None]
    transition_to: Mapped[str]
    reason: Mapped[str]
    actor: Mapped[str]
    command_id: Mapped[UUID]
    idempotency_key: Mapped[str | None]
    event_id: Mapped[UUID | None]
    external_event_id: Mapped[str | None]
    process_instance_id: Mapped[str | None]
    business_key: Mapped[str | None]
    # The event of this change. It stays known after the outbox has lost it (decision 0038).
    emitted_event_id: Mapped[UUID | None]
    emitted_event_type: Mapped[str | None]


class ConflictLog(Owned, Base):
    """Each refused command. Written after the refusal, in a transaction of its own: the refused one left nothing."""

    __tablename__ = "conflict_log"
    __table_args__ = (Index("ix_conflict_log_old", "created_at"),)
    conflict_code: Mapped[str]
    command: Mapped[str]
    aggregate_type: Mapped[str | None]
    aggregate_id: Mapped[UUID | None]
    expected_version: Mapped[int | None] = mapped_column(BigInteger)
    actual_version: Mapped[int | None] = mapped_column(BigInteger)
    actor: Mapped[str]
    command_id: Mapped[UUID]
    idempotency_key: Mapped[str | None]
    process_instance_id: Mapped[str | None]
    business_key: Mapped[str | None]


class OutboxStatus(StrEnum):
    PENDING = "PENDING"
    PUBLISHED = "PUBLISHED"
    REFUSED = "REFUSED"


class OutboxEvent(Owned, Base):
    """An event that Kafka must get. `id` is the event id; `position` orders the events of one aggregate. It is deleted when Kafka has it;
    a relay of the release before marks it as PUBLISHED instead (decision 0038).

    A relay takes an aggregate from its oldest pending event on and marks events by exact id: positions are given at insert, not at
    commit, so "everything up to the last one seen" would lose a late commit (docs/domain.md#where-the-obvious-sql-is-not-enough, 5).
    `due_at` is the lease of a relay. Kafka refuses a pending event since `refused_since`, without an outage; when it does so for too
    long, the event is REFUSED.
    """

    __tablename__ = "outbox_event"
    __table_args__ = (
        UniqueConstraint("tenant_id", "aggregate_type", "aggregate_id", "aggregate_version", "event_type"),
        CheckConstraint("status IN ('PENDING', 'PUBLISHED', 'REFUSED')", name="status"),
        Index("ix_outbox_event_pending", "aggregate_id", "position", postgresql_where=text("status = 'PENDING'")),
        Index("ix_outbox_event_oldest", "position", postgresql_where=text("status = 'PENDING'")),
        Index("ix_outbox_event_turn", "tenant_id", "position", postgresql_where=text("status = 'PENDING'")),
        Index("ix_outbox_event_old", "published_at", postgresql_where=text("status = 'PUBLISHED'")),
        Index("ix_outbox_event_refused", "tenant_id", "aggregate_id", postgresql_where=text("status = 'REFUSED'")),
    )
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    event_type: Mapped[str]
    topic: Mapped[str]
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[UUID]
    aggregate_version: Mapped[int] = mapped_column(BigInteger)
    payload: Mapped[dict[str, Any]]
    command_id: Mapped[UUID]
    causation_id: Mapped[UUID | None]
    business_key: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="PENDING")
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    published_at: Mapped[datetime | None]
    refused_since: Mapped[datetime | None]
    last_reason: Mapped[str | None]


class WorkflowCommandKind(StrEnum):
    """What a workflow command asks of the engine."""

    START = "START"
    CORRELATE = "CORRELATE"
    COMPLETE_TASK = "COMPLETE_TASK"
    ASSIGN_TASK = "ASSIGN_TASK"
    RETRY_TASK = "RETRY_TASK"


class WorkflowCommandStatus(StrEnum):
    PENDING = "PENDING"
    DONE = "DONE"
    EXPIRED = "EXPIRED"
    GIVEN_UP = "GIVEN_UP"


class WorkflowCommandEvent(StrEnum):
    FINISH = "FINISH"
    EXPIRE = "EXPIRE"
    GIVE_UP = "GIVE_UP"
    ASK_AGAIN = "ASK_AGAIN"


WORKFLOW_COMMAND_MATRIX = Matrix(
    WorkflowCommandStatus,
    WorkflowCommandEvent,
    moves={
        WorkflowCommandEvent.FINISH: {WorkflowCommandStatus.PENDING: WorkflowCommandStatus.DONE},
        WorkflowCommandEvent.EXPIRE: dict.fromkeys(
            (WorkflowCommandStatus.PENDING, WorkflowCommandStatus.GIVEN_UP), WorkflowCommandStatus.EXPIRED
        ),
        WorkflowCommandEvent.GIVE_UP: {WorkflowCommandStatus.PENDING: WorkflowCommandStatus.GIVEN_UP},
        WorkflowCommandEvent.ASK_AGAIN: {WorkflowCommandStatus.GIVEN_UP: WorkflowCommandStatus.PENDING},
    },
)


class WorkflowCommand(Aggregate, Base):
    """A request to the engine, carried out by the dispatcher until it is proven done or no longer matters (`expires_at`).

    `due_at` is the time of the next try, and the lease of the dispatcher that has claimed the row: a claim moves it into the future.
    The engine has not carried it out `refusals` times since `refused_since`, the last time at `refused_at`; after too long it is GIVEN_UP,
    and has a case. What counts is `refused_ms`, while the engine refused it or had nobody for it, and `failed_ms`, while the engine failed
    or gave no usable reply: milliseconds, without outages.
    """

    ID_FIELD = "workflow_command_id"
    __tablename__ = "workflow_command"
    __table_args__ = (
        WORKFLOW_COMMAND_MATRIX.check_status(),
        Index("ix_workflow_command_due", "tenant_id", "due_at", postgresql_where=text("status = 'PENDING'")),
        Index("ix_workflow_command_pending", "tenant_id", "business_key", postgresql_where=text("status = 'PENDING'")),
        Index("ix_workflow_command_old", "updated_at", postgresql_where=text("status <> 'PENDING'")),
        Index("ix_workflow_command_given_up", "tenant_id", "business_key", postgresql_where=text("status = 'GIVEN_UP'")),
    )
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True))
    kind: Mapped[str]
    business_key: Mapped[str]
    name: Mapped[str]
    variables: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    expires_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    refusals: Mapped[int] = mapped_column(server_default="0")
    refused_since: Mapped[datetime | None]
    last_reason: Mapped[str | None]
    refused_at: Mapped[datetime | None]
    refused_ms: Mapped[int] = mapped_column(server_default="0")
    failed_ms: Mapped[int] = mapped_column(server_default="0")


append_only(TransitionLog)
append_only(ConflictLog, until_old=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who causes a command, and by which door it came; it goes into every log row and event of the transaction."""

    tenant_id: UUID
    actor: str
    command: str
    command_id: UUID = field(default_factory=uuid4)
    idempotency_key: str | None = None
    event_id: UUID | None = None
    external_event_id: str | None = None
    process_instance_id: str | None = None
    business_key: str | None = None


ORIGIN = ("actor", "command_id", "idempotency_key", "event_id", "external_event_id", "process_instance_id", "business_key")


def origin(cause: Cause) -> dict[str, Any]:
    """The fields of a cause that every entry of the transition log keeps, where they are known."""
    known = {name: getattr(cause, name) for name in ORIGIN}
    return {name: value for name, value in known.items() if value is not None}


def with_events(transitions: list[dict[str, Any]], events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The changes of a transaction, each with the id of its event: the log keeps it when the outbox has lost it."""
    place = ("aggregate_type", "aggregate_id", "aggregate_version")
    told = {tuple(event[name] for name in place): event for event in events}
    for transition in transitions:
        if event := told.get(tuple(transition[name] for name in place)):
            transition |= {"emitted_event_id": event["id"], "emitted_event_type": event["event_type"]}
    return transitions


def conflict_row(cause: Cause, refusal: Refusal) -> dict[str, Any]:
    """A refusal as a row of `conflict_log`."""
    return {
        "tenant_id": cause.tenant_id,
        "id": uuid4(),
        "conflict_code": refusal.code,
        "command": cause.command,
        "aggregate_type": refusal.aggregate_type,
        "aggregate_id": refusal.aggregate_id,
        "expected_version": refusal.expected_version,
        "actual_version": refusal.current_version,
        "actor": cause.actor,
        "command_id": cause.command_id,
        "idempotency_key": cause.idempotency_key,
        "process_instance_id": cause.process_instance_id,
        "business_key": cause.business_key,
    }
