"""One command, one short transaction: the only place that commits.

`create` and `apply` wait for the database. Everything else that a command writes (`add`, `change`, `write`, the transition log, the outbox,
workflow commands) is collected, and sent together in one round trip: before the next read, and right before COMMIT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Insert, Result, Row, Select, Table, Update, select
from sqlalchemy import Engine as Database
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from domain.errors import AlreadyExists, InvalidTransition, NotFound, OutcomeUnknownError, Refusal, TryAgain
from domain.store.base import as_json, in_camel_case, table_of
from domain.store.declared import run
from domain.store.facts import (
    TOPICS,
    Cause,
    ConflictLog,
    OutboxEvent,
    TransitionLog,
    WorkflowCommandKind,
    WorkflowCommandStatus,
    conflict_row,
    origin,
    with_events,
)
from domain.store.isolation import tenant_of_machinery
from domain.store.moves import PREFIX, Check, Move, param
from domain.store.sending import ASK_ENGINE, Writes, change_of, named, to_json
from domain.store.summary import Summary
from domain.store.transactions import transaction

BUSY = {"55P03": "lock_timeout", "40P01": "deadlock", "40001": "serialization"}
"""SQLSTATEs that mean: nothing was decided, the whole unit of work may be run again."""
_RECORD_CONFLICT = insert(table_of(ConflictLog))


class UnitOfWork:
    """The open transaction of one command, for one tenant."""

    def __init__(self, connection: Connection, cause: Cause) -> None:
        self._connection = connection
        self._writes = Writes(connection)
        self.cause = cause
        self.summary = Summary()
        self._origin = origin(cause)
        self._transitions: list[dict[str, Any]] = []
        self._events: list[dict[str, Any]] = []
        self._workflow_commands: list[dict[str, Any]] = []

    @property
    def tenant_id(self) -> UUID:
        return self.cause.tenant_id

    @property
    def connection(self) -> Connection:
        """For statements whose result is needed: the collected writes are sent first."""
        self._writes.send()
        return self._connection

    def apply(self, move: Move, command: Any = None, *, emits: str | None = None, announce: bool = True, **more: Any) -> Row[Any]:
        """Carry out a guarded transition and log it; `more` adds to the command's fields or replaces them, `emits` replaces the event.

        Without `announce` the caller emits it, with more than the row has. Raises the first refusal, NotFound, or TryAgain.
        """
        values = self._values(move, command, more)
        for _ in range(2):  # the state may change between the write that found no row and the diagnosis
            row = run(self.connection, move.write, values).one_or_none()
            if row is not None:
                event, expected = (emits or move.emits) if announce else None, values.get(PREFIX + "expected_version")
                self._record(move.table.name, row, str(move.event), event, expected)
                return row
            self._refuse(move, values)
        raise TryAgain

    def require(self, check: Check, command: Any = None, **more: Any) -> Row[Any]:
        """Lock the row FOR SHARE and demand the check's guards; returns the row. Raises as `apply` does."""
        values = self._values(check, command, more)
        row = run(self.connection, check.lock, values).one_or_none()
        self._raise_first(check, values, row)
        assert row is not None  # noqa: S101 - `_raise_first` refused a missing row
        return row

    def create(self, entity: Any, *, reason: str, emits: str | None = None, **values: Any) -> Row[Any]:
        """Insert an aggregate at version 1 and log its creation. Raises AlreadyExists when it violates a unique constraint."""
        table = table_of(entity)
        values = {"tenant_id": self.tenant_id, "id": uuid4(), "version": 1, **values}
        row = run(self.connection, _creation(table), values).one_or_none()
        if row is None:
            raise AlreadyExists(aggregate_type=table.name)
        self._record(table.name, row, reason, emits)
        return row

    def create_own(self, entity: Any, *, reason: str, status: str, **values: Any) -> None:
        """Insert an aggregate that only this transaction can create, because its keys depend on a row that is locked here; logs as `create`."""
        [row_id] = self.add(entity, {"version": 1, "status": status, **values})
        self._log(table_of(entity).name, row_id, version=1, old=None, new=status, reason=reason)

    def add(self, entity: Any, *rows: Mapping[str, Any]) -> list[UUID]:
        """Insert evidence, or parts of an aggregate; returns their ids."""
        filled = [{"tenant_id": self.tenant_id, "id": uuid4(), **row} for row in rows]
        self._writes.insert(table_of(entity), filled)
        return [row["id"] for row in filled]

    def change(self, entity: Any, row_id: UUID, **values: Any) -> None:
        """Set columns of a row that changes only together with an aggregate whose row this transaction has locked."""
        table = table_of(entity)
        self.write(change_of(table, tuple(values)), id=row_id, **{f"new_{name}": value for name, value in values.items()})

    def write(self, statement: Insert | Update, **values: Any) -> None:
        """Run a statement that is declared once and returns nothing; `values` are its parameters, `named` after its table."""
        known = {"tenant_id": self.tenant_id, **values}
        self._writes.run(statement, {named(statement.table, name): value for name, value in known.items()})

    def one(self, query: Select[Any], what: str = "It", **values: Any) -> Row[Any]:
        """The single row of a query, or NotFound; `values` are the parameters (`param`) of a query that is declared once."""
        row = (self.rows(query, **values) if values else self.connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"{what} does not exist.")
        return row

    def rows(self, query: Select[Any], **values: Any) -> Result[Any]:
        """The rows of a query that is declared once; `values` are its parameters (`param`)."""
        given = {"tenant_id": self.tenant_id, **values}
        return run(self.connection, query, {PREFIX + name: value for name, value in given.items()})

    def read(self, entity: Any, row_id: UUID, *, lock: bool = False) -> Row[Any]:
        """A row by its id, or NotFound; with `lock` it is locked until commit."""
        table = table_of(entity)
        return self.one(_by_id(table, lock), table.name.replace("_", " ").capitalize(), id=row_id)

    def flag_conflict(self, refusal: Refusal) -> None:
        """Log a conflict that is committed with the transaction, because the fact itself must be kept."""
        self._writes.insert(table_of(ConflictLog), [conflict_row(self.cause, refusal)])
        self.summary.conflicts.append(refusal)

    def emit(self, aggregate: str, row: Row[Any], event_type: str, **more: Any) -> None:
        """Queue an event with the full header of its aggregate, so that a consumer that skips a version loses nothing."""
        self._events.append(
            {
                "tenant_id": self.tenant_id,
                "id": uuid4(),
                "event_type": event_type,
                "topic": TOPICS[aggregate],
                "aggregate_type": aggregate,
                "aggregate_id": row.id,
                "aggregate_version": row.version,
                "payload": in_camel_case({**row._mapping, **more}),
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
        """Queue a workflow command: start process `name`, correlate message `name`, complete the user task of requirement `name`,
        assign the user task `name`, or try the failed activity `name` again.
        """
        self.summary.facts.setdefault("business_key", business_key)
        self._workflow_commands.append(
            {
                "tenant_id": self.tenant_id,
                "id": uuid4(),
                "version": 1,
                "status": WorkflowCommandStatus.PENDING,
                "kind": kind,
                "name": name,
                "business_key": business_key,
                "variables": as_json(variables or {}),
                "expires_after_seconds": expires_after.total_seconds() if expires_after else None,
            }
        )

    def _values(self, check: Check, command: Any, more: Mapping[str, Any]) -> dict[str, Any]:
        known = {"tenant_id": self.tenant_id, **more}
        return {PREFIX + name: known[name] if name in known else getattr(command, name) for name in check.parameters}

    def _refuse(self, move: Move, values: Mapping[str, Any]) -> None:
        self._raise_first(move, values, run(self.connection, move.diagnosis, values).one_or_none())

    def _raise_first(self, check: Check, values: Mapping[str, Any], row: Row[Any] | None) -> None:
        if row is None:
            raise NotFound(f"{check.table.name.replace('_', ' ').capitalize()} does not exist.", aggregate_type=check.table.name)
        refusal = check.first_refusal(dict(row._mapping))
        if refusal is None:
            return
        raise refusal.about(
            row,
            f"A {check.table.name.replace('_', ' ')} that is {row.status} does not allow this."
            if refusal is InvalidTransition
            else None,
            aggregate_type=check.table.name,
            expected_version=values.get(PREFIX + "expected_version"),
            event=check.name.rpartition(".")[2].upper(),
        )

    def _record(self, aggregate: str, row: Row[Any], reason: str, emits: str | None, expected: int | None = None) -> None:
        self._log(aggregate, row.id, version=row.version, old=row.prior_status, new=row.status, reason=reason, expected=expected)
        if emits is not None:
            self.emit(aggregate, row, emits)

    def _log(
        self, aggregate: str, row_id: UUID, *, version: int, old: str | None, new: str, reason: str, expected: int | None = None
    ) -> None:
        transition = {
            "tenant_id": self.tenant_id,
            "id": uuid4(),
            "aggregate_type": aggregate,
            "aggregate_id": row_id,
            "aggregate_version": version,
            "transition_from": old,
            "transition_to": new,
            "reason": reason,
            **self._origin,
        }
        self._transitions.append(transition)
        self.summary.transitions.append((transition, expected))

    def flush(self) -> None:
        """Send everything that is collected."""
        self._writes.insert(table_of(TransitionLog), with_events(self._transitions, self._events))
        self._writes.insert(table_of(OutboxEvent), self._events)
        if self._workflow_commands:
            self.write(ASK_ENGINE, rows=to_json(self._workflow_commands))
        self._transitions, self._events, self._workflow_commands = [], [], []
        self._writes.send()


@cache
def _creation(table: Table) -> Insert:
    # A plain INSERT that violates a constraint would abort the whole transaction (docs/domain.md#where-the-obvious-sql-is-not-enough, 7).
    return insert(table).on_conflict_do_nothing().returning(*table.c)


@cache
def _by_id(table: Table, lock: bool) -> Select[Any]:  # noqa: FBT001 - private
    query = select(*table.c).where(table.c.tenant_id == param("tenant_id"), table.c.id == param("id"))
    return query.with_for_update(key_share=True) if lock else query


@contextmanager
def unit_of_work(database: Database, cause: Cause) -> Iterator[UnitOfWork]:
    """Open the transaction of one command; commit when the block ends, leave nothing when it raises.

    A refusal is recorded in `conflict_log` afterwards. Raises TryAgain when the database could not decide in time,
    OutcomeUnknownError when the connection was lost during COMMIT.
    """
    try:
        with transaction(database, cause.tenant_id) as connection:
            connection.info["command"] = cause.command
            uow = UnitOfWork(connection, cause)
            yield uow
            uow.flush()
            _commit(connection)
    except Refusal as refusal:
        _record_conflict(database, cause, refusal)
        raise
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in BUSY:
            raise TryAgain from error
        raise


def _commit(connection: Connection) -> None:
    try:
        connection.commit()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise  # the database replied: it rolled back
        raise OutcomeUnknownError from error


def _record_conflict(database: Database, cause: Cause, refusal: Refusal) -> None:
    with transaction(database, cause.tenant_id) as connection:
        run(connection, _RECORD_CONFLICT, conflict_row(cause, refusal))
        connection.commit()


@contextmanager
def housekeeping(database: Database) -> Iterator[Connection]:
    """A transaction of the machinery (claims, walks and marks of relay, dispatcher, sweeps), across tenants; changes no business state."""
    with transaction(database, tenant_of_machinery(database), by_index=True) as connection:
        yield connection
        connection.commit()
