"""Which process instance belongs to which aggregate, and what is known of its start (docs/domain.md#process-starts).

Business keys are not unique in the engine, and a start whose response is lost may have happened. So a start carries a token, the first task
of every process is the registration gate (`register`), and only one instance ever passes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Index, Row, Text, UniqueConstraint, func, select, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, SafeAction
from domain.retry_rules import CASE_PROCESS
from domain.store import Aggregate, Base, Guard, Matrix, Move, UnitOfWork, param, sql_list, table_of
from domain.store.claims import Checked, since
from domain.store.facts import WorkflowCommandKind
from domain.workflows import instances


class CorrelationStatus(StrEnum):
    REQUESTED = "REQUESTED"
    START_UNKNOWN = "START_UNKNOWN"
    STARTED = "STARTED"
    START_FAILED = "START_FAILED"
    ENDED = "ENDED"
    LOST = "LOST"


class CorrelationEvent(StrEnum):
    REGISTER = "REGISTER"
    TIME_OUT = "TIME_OUT"
    FIND_ABSENT = "FIND_ABSENT"
    REFUSE = "REFUSE"
    END = "END"
    LOSE = "LOSE"
    RESTART = "RESTART"
    GIVE_UP = "GIVE_UP"


# S and E stand for states and events in the matrix below.
S, E = CorrelationStatus, CorrelationEvent
UNSETTLED = (S.REQUESTED, S.START_UNKNOWN)

CORRELATION_MATRIX = Matrix(
    CorrelationStatus,
    CorrelationEvent,
    moves={
        E.REGISTER: {S.REQUESTED: S.STARTED, S.START_UNKNOWN: S.STARTED},
        E.TIME_OUT: {S.REQUESTED: S.START_UNKNOWN},
        E.FIND_ABSENT: {S.START_UNKNOWN: S.REQUESTED},
        E.REFUSE: {S.REQUESTED: S.START_FAILED},
        # What a lost instance was for may be settled without it.
        E.END: {S.STARTED: S.ENDED, S.LOST: S.ENDED},
        E.LOSE: {S.STARTED: S.LOST},
        E.RESTART: {S.STARTED: S.REQUESTED, S.LOST: S.REQUESTED, S.START_FAILED: S.REQUESTED},
        E.GIVE_UP: {S.START_UNKNOWN: S.START_FAILED},
    },
    keeps={
        E.REGISTER: frozenset({S.STARTED, S.ENDED}),
        E.TIME_OUT: frozenset({S.START_UNKNOWN, S.STARTED, S.ENDED}),
        E.FIND_ABSENT: frozenset({S.REQUESTED, S.STARTED, S.ENDED}),
        E.END: frozenset({S.ENDED}),
    },
)


class DuplicateWorkflow(Conflict):
    """Another process instance is registered for this business key."""

    safe_action = SafeAction.NOTHING_TO_DO


class CorrelationMovedOn(Conflict):
    """The start was settled in the meantime."""

    safe_action = SafeAction.NOTHING_TO_DO


UNRESOLVED = f"status IN {sql_list(UNSETTLED)}"
WATCHED = f"status IN {sql_list((S.STARTED, S.LOST))}"
FAILED = f"status = '{S.START_FAILED}'"


class WorkflowCorrelation(Aggregate, Checked, Base):
    """Which process instance belongs to which aggregate. `start_token` stays the same over all tries of one start; a restart has a new one.

    `failed_since`: when its start first failed; kept until an instance registers.
    """

    ID_FIELD = "correlation_id"
    __tablename__ = "workflow_correlation"
    __table_args__ = (
        CORRELATION_MATRIX.check_status(),
        UniqueConstraint("tenant_id", "aggregate_type", "aggregate_id", "workflow_name"),
        UniqueConstraint("tenant_id", "business_key"),
        Index("ix_workflow_correlation_instance", "process_instance_id"),
        Index("ix_workflow_correlation_unresolved", "tenant_id", "next_check_at", postgresql_where=text(UNRESOLVED)),
        Index("ix_workflow_correlation_watched", "tenant_id", "next_check_at", postgresql_where=text(WATCHED)),
        Index("ix_workflow_correlation_failed", "tenant_id", "next_check_at", postgresql_where=text(FAILED)),
    )
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[UUID]
    workflow_name: Mapped[str]
    business_key: Mapped[str]
    start_token: Mapped[UUID]
    process_instance_id: Mapped[str | None]
    variables: Mapped[dict[str, Any]]
    attempts: Mapped[int] = mapped_column(server_default="1")
    requested_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    failed_since: Mapped[datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterWorkflow:
    """An instance at the gate: its business key, the token that it was started with, its own id."""

    business_key: str
    start_token: UUID
    process_instance_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginWorkflow:
    """A process that an aggregate needs; tenant and start token are added to its variables."""

    workflow_name: str
    aggregate_type: str
    aggregate_id: UUID
    business_key: str
    variables: Mapping[str, Any]


CORRELATION = table_of(WorkflowCorrelation)
NOW = func.clock_timestamp()

EXPECTED_VERSION = Guard(CorrelationMovedOn, WorkflowCorrelation.version == param("expected_version"))
IS_REGISTERED = Guard(
    CorrelationMovedOn, WorkflowCorrelation.process_instance_id.is_not_distinct_from(param("process_instance_id", Text()))
)
"""The command is about the registered instance, not about one whose place was given away. None: a start that has failed has no instance."""
FIRST_LOOK = timedelta(minutes=1)  # after its registration: most instances without a fault have ended by then

REGISTER = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    E.REGISTER,
    Guard(DuplicateWorkflow, WorkflowCorrelation.start_token == param("start_token")),
    sets={
        WorkflowCorrelation.process_instance_id: param("process_instance_id"),
        WorkflowCorrelation.next_check_at: func.clock_timestamp() + FIRST_LOOK,
        WorkflowCorrelation.failed_since: None,
    },
    key=WorkflowCorrelation.business_key,
    illegal=dict.fromkeys((S.START_FAILED, S.LOST, S.STARTED, S.ENDED), DuplicateWorkflow),
)
TIME_OUT = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    E.TIME_OUT,
    sets={WorkflowCorrelation.next_check_at: func.clock_timestamp()},
    key=WorkflowCorrelation.business_key,
    illegal=dict.fromkeys(S, CorrelationMovedOn),
)
FIND_ABSENT = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    E.FIND_ABSENT,
    EXPECTED_VERSION,
    sets={WorkflowCorrelation.attempts: WorkflowCorrelation.attempts + 1},
    key=WorkflowCorrelation.business_key,
)
FAILED_SINCE = func.coalesce(WorkflowCorrelation.failed_since, func.clock_timestamp())
HAS_FAILED = {
    WorkflowCorrelation.failed_since: FAILED_SINCE,
    # As `RetryRule.wait_after` says.
    WorkflowCorrelation.next_check_at: func.clock_timestamp()
    + func.least(func.greatest(since(FAILED_SINCE), CASE_PROCESS.first_wait), CASE_PROCESS.longest_wait),
}
REFUSE = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    E.REFUSE,
    sets=HAS_FAILED,
    key=WorkflowCorrelation.business_key,
    illegal=dict.fromkeys(S, CorrelationMovedOn),
)
GIVE_UP = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    E.GIVE_UP,
    EXPECTED_VERSION,
    sets=HAS_FAILED,
    key=WorkflowCorrelation.business_key,
    illegal=dict.fromkeys(S, CorrelationMovedOn),
)


def begin(uow: UnitOfWork, command: BeginWorkflow) -> None:
    """Record that an aggregate needs a process, and queue its start, in the transaction that creates the need."""
    token = uuid4()
    variables = {"tenant_id": uow.tenant_id, **command.variables, "start_token": token}
    uow.create_own(
        WorkflowCorrelation,
        reason="REQUEST",
        status=S.REQUESTED,
        aggregate_type=command.aggregate_type,
        aggregate_id=command.aggregate_id,
        workflow_name=command.workflow_name,
        business_key=command.business_key,
        start_token=token,
        variables={key: str(value) for key, value in variables.items()},
    )
    uow.ask_engine(WorkflowCommandKind.START, command.workflow_name, command.business_key, variables)


def register(uow: UnitOfWork, command: RegisterWorkflow) -> None:
    """The registration gate: the first instance that comes with the right token passes, and passes again when it repeats.

    Raises DuplicateWorkflow for every other instance, NotFound for a business key that has no correlation.
    """
    try:
        uow.apply(REGISTER, command)
    except DuplicateWorkflow:
        known = find(uow, command.business_key)
        if (known.process_instance_id, known.start_token) != (command.process_instance_id, command.start_token):
            raise
        uow.summary.repeat("workflow_correlation", known)
    instances.record_root(uow, command.process_instance_id, command.business_key)


def find(uow: UnitOfWork, business_key: str) -> Row[Any]:
    """The correlation of a business key, or NotFound."""
    query = select(*CORRELATION.c).filter_by(tenant_id=uow.tenant_id, business_key=business_key)
    return uow.one(query, f"A workflow for {business_key}")


def find_locked(uow: UnitOfWork, business_key: str) -> Row[Any] | None:
    """The correlation of a business key, locked until commit; None when the domain has asked for no process of this key."""
    query = select(*CORRELATION.c).filter_by(tenant_id=uow.tenant_id, business_key=business_key)
    return uow.connection.execute(query.with_for_update(key_share=True)).one_or_none()


def status_of(uow: UnitOfWork, business_key: str) -> CorrelationStatus | None:
    """How the start of a process stands; None for a business key that has no correlation."""
    status = uow.connection.scalar(select(CORRELATION.c.status).filter_by(tenant_id=uow.tenant_id, business_key=business_key))
    return CorrelationStatus(status) if status else None


def registered_instance(uow: UnitOfWork, business_key: str) -> str | None:
    """The process instance that is registered for a business key; None while its start is not settled, and without a correlation."""
    query = select(CORRELATION.c.process_instance_id).filter_by(tenant_id=uow.tenant_id, business_key=business_key)
    return uow.connection.scalar(query)


def start_timed_out(uow: UnitOfWork, business_key: str) -> bool:
    """Mark a start without a reply as START_UNKNOWN; returns False when the instance has registered meanwhile."""
    try:
        uow.apply(TIME_OUT, business_key=business_key)
    except CorrelationMovedOn:
        return False
    return True


def start_refused(uow: UnitOfWork, business_key: str) -> None:
    """Record that the engine refused a start: START_FAILED."""
    uow.apply(REFUSE, business_key=business_key)


def give_up(uow: UnitOfWork, business_key: str, expected_version: int) -> None:
    """End a start whose outcome stays unknown: START_FAILED. An instance of it that still comes ends at the gate. Raises CorrelationMovedOn."""
    uow.apply(GIVE_UP, business_key=business_key, expected_version=expected_version)


def start_again(uow: UnitOfWork, business_key: str, expected_version: int) -> None:
    """Queue a start again, with the same token, after the engine has proven to have no instance.

    Raises CorrelationMovedOn when it was settled meanwhile.
    """
    row = uow.apply(FIND_ABSENT, business_key=business_key, expected_version=expected_version)
    uow.ask_engine(WorkflowCommandKind.START, row.workflow_name, business_key, row.variables)
