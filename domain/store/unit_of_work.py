"""One command, one short transaction: the only place that commits.

A command changes rows through `create` and `apply`; why it happened (transition log), who must hear of it (outbox) and what the
engine must do (workflow commands) are collected and sent together, in one round trip, right before COMMIT.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, Row, Select, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, OperationalError

from domain.errors import AlreadyExists, InvalidTransition, NotFound, OutcomeUnknownError, Refusal, TryAgain
from domain.store.base import as_json, table_of
from domain.store.facts import TOPICS, ConflictLog, WorkflowCommandKind
from domain.store.moves import PREFIX, Check, Move
from domain.store.sending import SEND_FACTS

BUSY = {"55P03": "lock_timeout", "40P01": "deadlock", "40001": "serialization"}
"""SQLSTATEs that mean: nothing was decided, the whole unit of work may be run again."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who wants something, and through which door it came: goes into every log row and event of the transaction."""

    tenant_id: UUID
    actor: str
    command: str
    command_id: UUID = dataclasses.field(default_factory=uuid4)
    idempotency_key: str | None = None
    event_id: UUID | None = None
    external_event_id: str | None = None
    process_instance_id: str | None = None
    business_key: str | None = None


class UnitOfWork:
    """The open transaction of one command, for one tenant."""

    def __init__(self, connection: Connection, cause: Cause) -> None:
        self.connection = connection
        self.cause = cause
        self._transitions: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._workflow_commands: list[dict[str, Any]] = []

    @property
    def tenant_id(self) -> UUID:
        return self.cause.tenant_id

    def apply(self, move: Move, command: Any = None, *, emits: str | None = None, **more: Any) -> Row[Any]:
        """Carry out a guarded transition and log it; `more` adds to (or stands for) the command's fields, `emits` renames the event.

        Returns the row after the change. Raises the refusal of the first guard that does not hold, NotFound, or TryAgain.
        """
        values = self._values(move, command, more)
        for _ in range(2):  # the state may change between the write that found nothing and the diagnosis
            row = self.connection.execute(move.write, values).one_or_none()
            if row is not None:
                self._record(move.table.name, row, str(move.event), emits or move.emits)
                return row
            self._refuse(move, values)
        raise TryAgain

    def require(self, check: Check, command: Any = None, **more: Any) -> Row[Any]:
        """Lock the row FOR SHARE and demand the check's guards; returns the row. Raises as `apply` does."""
        values = self._values(check, command, more)
        row = self.connection.execute(check.diagnosis.with_for_update(read=True, of=check.table), values).one_or_none()
        self._raise_first(check, values, row)
        assert row is not None  # noqa: S101 - `_raise_first` refused a missing row
        return row

    def create(self, entity: Any, *, reason: str, emits: str | None = None, **values: Any) -> Row[Any]:
        """Insert an aggregate at version 1 and log its birth. Raises AlreadyExists when a unique constraint has it already."""
        table = table_of(entity)
        values = {"tenant_id": self.tenant_id, "id": uuid4(), "version": 1, **values}
        # A plain INSERT that meets the constraint would abort the whole transaction (domain.md, finding 7).
        row = self.connection.execute(insert(table).on_conflict_do_nothing().returning(*table.c), values).one_or_none()
        if row is None:
            raise AlreadyExists(aggregate_type=table.name)
        self._record(table.name, row, reason, emits)
        return row

    def add(self, entity: Any, *rows: Mapping[str, Any]) -> list[UUID]:
        """Insert facts that have no life of their own; returns their ids."""
        filled = [{"tenant_id": self.tenant_id, "id": uuid4(), **row} for row in rows]
        if filled:
            self.connection.execute(insert(table_of(entity)), filled)
        return [row["id"] for row in filled]

    def one(self, query: Select[Any], what: str = "It") -> Row[Any]:
        """The single row of a query, or NotFound."""
        row = self.connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"{what} does not exist.")
        return row

    def read(self, entity: Any, row_id: UUID, *, lock: bool = False) -> Row[Any]:
        """A row by id; with `lock` it stays as it is until commit."""
        table = table_of(entity)
        query = select(*table.c).where(table.c.tenant_id == self.tenant_id, table.c.id == row_id)
        return self.one(query.with_for_update(key_share=True) if lock else query, table.name.replace("_", " ").capitalize())

    def flag_conflict(self, refusal: Refusal) -> None:
        """Log a conflict that is committed with the transaction, because the fact itself must be kept."""
        self.connection.execute(insert(table_of(ConflictLog)), _conflict_row(self.cause, refusal))

    def emit(self, aggregate: str, row: Row[Any], event_type: str, **more: Any) -> None:
        """Queue an event with the full header of its aggregate, so that a consumer that skips a version loses nothing."""
        self._events.append(
            {
                "id": uuid4(),
                "event_type": event_type,
                "topic": TOPICS[aggregate],
                "aggregate_type": aggregate,
                "aggregate_id": row.id,
                "aggregate_version": row.version,
                "payload": as_json({**row._mapping, **more}),
                "command_id": self.cause.command_id,
                "causation_id": self.cause.event_id,
                "business_key": self.cause.business_key,
            }
        )

    def ask_engine(
        self,
        kind: WorkflowCommandKind,
        name: str,
        business_key: str,
        variables: Mapping[str, Any] | None = None,
        expires_after: timedelta | None = None,
    ) -> None:
        """Queue a request to the engine: start process `name`, send message `name`, complete the user task of requirement `name`."""
        expires_after_seconds = expires_after.total_seconds() if expires_after else None
        self._workflow_commands.append(
            {
                "id": uuid4(),
                "kind": kind,
                "name": name,
                "business_key": business_key,
                "variables": as_json(variables or {}),
                "expires_after_seconds": expires_after_seconds,
            }
        )

    def _values(self, check: Check, command: Any, more: Mapping[str, Any]) -> dict[str, Any]:
        fields = {f.name: getattr(command, f.name) for f in dataclasses.fields(command)} if command is not None else {}
        known = {**fields, "tenant_id": self.tenant_id, **more}
        return {PREFIX + name: known[name] for name in check.parameters}

    def _refuse(self, move: Move, values: Mapping[str, Any]) -> None:
        self._raise_first(move, values, self.connection.execute(move.diagnosis, values).one_or_none())

    def _raise_first(self, check: Check, values: Mapping[str, Any], row: Row[Any] | None) -> None:
        if row is None:
            raise NotFound(f"{check.table.name.replace('_', ' ').capitalize()} does not exist.", aggregate_type=check.table.name)
        refusal = check.first_refusal(dict(row._mapping))
        if refusal is None:
            return
        raise refusal(
            f"A {check.table.name.replace('_', ' ')} that is {row.status} cannot take this step."
            if refusal is InvalidTransition
            else None,
            aggregate_type=check.table.name,
            aggregate_id=row.id,
            expected_version=values.get(PREFIX + "expected_version"),
            current_version=getattr(row, "version", None),
            current_status=getattr(row, "status", None),
            event=check.name.rpartition(".")[2].upper(),
        )

    def _record(self, aggregate: str, row: Row[Any], reason: str, emits: str | None) -> None:
        cause = self.cause
        self._transitions.append(
            {
                "id": uuid4(),
                "aggregate_type": aggregate,
                "aggregate_id": row.id,
                "aggregate_version": row.version,
                "transition_from": row.prior_status,
                "transition_to": row.status,
                "reason": reason,
                "actor": cause.actor,
                "command_id": cause.command_id,
                "idempotency_key": cause.idempotency_key,
                "event_id": cause.event_id,
                "external_event_id": cause.external_event_id,
                "process_instance_id": cause.process_instance_id,
                "business_key": cause.business_key,
            }
        )
        if emits is not None:
            self.emit(aggregate, row, emits)

    def flush(self) -> None:
        """Send the collected facts in one statement."""
        if not (self._transitions or self._events or self._workflow_commands):
            return
        facts = {"transitions": self._transitions, "events": self._events, "commands": self._workflow_commands}
        self.connection.execute(
            SEND_FACTS, {"tenant_id": self.tenant_id, **{name: json.dumps(rows, default=str) for name, rows in facts.items()}}
        )
        self._transitions, self._events, self._workflow_commands = [], [], []


@contextmanager
def unit_of_work(engine: Engine, cause: Cause) -> Iterator[UnitOfWork]:
    """Open the transaction of one command; commit when the block ends, leave nothing when it raises.

    A refusal is recorded in `conflict_log` afterwards. Raises TryAgain when the database could not decide in time,
    OutcomeUnknownError when the connection died in COMMIT.
    """
    try:
        with engine.connect() as connection:
            uow = UnitOfWork(connection, cause)
            yield uow
            uow.flush()
            _commit(connection)
    except Refusal as refusal:
        _record_conflict(engine, cause, refusal)
        raise
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in BUSY:
            raise TryAgain from error
        raise


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except OperationalError as error:
        if not error.connection_invalidated:
            raise  # the database answered: it rolled back
        raise OutcomeUnknownError from error


def _record_conflict(engine: Engine, cause: Cause, refusal: Refusal) -> None:
    with engine.begin() as connection:
        connection.execute(insert(table_of(ConflictLog)), _conflict_row(cause, refusal))


def _conflict_row(cause: Cause, refusal: Refusal) -> dict[str, Any]:
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


@contextmanager
def housekeeping(engine: Engine) -> Iterator[Connection]:
    """A transaction of the machinery itself (claims and marks of relay, dispatcher, sweeps), across tenants; changes no business state."""
    with engine.begin() as connection:
        yield connection
