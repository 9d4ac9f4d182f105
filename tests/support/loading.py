"""Many rows at once, by SQL: copies of rows that the domain's own commands have made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Engine, Table, text

from domain.schema import METADATA
from domain.store import table_of
from domain.store.facts import OutboxEvent
from workers.runtime.database_connection import PatientConnection


@contextmanager
def loading(engine: Engine) -> Iterator[Connection]:
    """A transaction for many rows, without triggers and without a time limit: copies are right by themselves, and checking each takes long."""
    with engine.begin() as connection, without_response_timeout(connection):
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


@contextmanager
def without_response_timeout(connection: Connection) -> Iterator[None]:
    """Wait for each response without end, because the client's limit does not end with the server's."""
    session = connection.connection.driver_connection
    assert isinstance(session, PatientConnection)
    before, session.response_timeout = session.response_timeout, None
    try:
        yield
    finally:
        session.response_timeout = before


def copied_tenant(connection: Connection, tenant_id: UUID) -> UUID:
    """Copy every row of a tenant to a new tenant, whose numbers go on from there. Ids stay the same, because the tenant is in every key."""
    copy = uuid4()
    last = text(
        "SELECT sequencename, last_value FROM pg_sequences WHERE schemaname = 'numbers' AND sequencename LIKE '%-' || :tenant"
    )
    for name, number in connection.execute(last, {"tenant": str(tenant_id)}).all():
        connection.execute(text(f'CREATE SEQUENCE numbers."{name.replace(str(tenant_id), str(copy))}" START {number + 1}'))
    for table in METADATA.sorted_tables:
        if "tenant_id" in table.c:
            insert_copies(connection, table, 1, {"tenant_id": f"'{copy}'"}, f"tenant_id = '{tenant_id}'", keep_ids=True)
    return copy


def insert_copies(
    connection: Connection, table: Table | Any, number: int, changes: Mapping[str, str], which: str, *, keep_ids: bool = False
) -> None:
    """Copy the rows that `which` selects. `changes` gives new column values as SQL, which may use the row `t` and the copy's number `n`."""
    table = table if isinstance(table, Table) else table_of(table)
    given = {**({} if keep_ids or "id" not in table.c else {"id": "gen_random_uuid()"}), **changes}
    columns = [column.name for column in table.c if column.identity is None]
    values = [given.get(name, f"t.{name}") for name in columns]
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {', '.join(values)} "
            f"FROM (SELECT * FROM {table.name} WHERE {which}) AS t, generate_series(1, {number}) AS n"
        )
    )


def numbered(name: str) -> str:
    """An id, as SQL: the same for the same name, tenant and number."""
    return f"md5('{name}' || t.tenant_id || n)::uuid"


def insert_attempted_steps(connection: Connection, tenant_id: UUID, number: int, *, code: str, step: str, **changes: str) -> None:
    """Insert steps like the one with the id `step`, each with a copy of its live attempt; `changes` are columns of the attempt."""
    which = f"tenant_id = '{tenant_id}' AND id = '{step}'"
    provider = {"provider_name": changes["provider_name"]} if "provider_name" in changes else {}
    named = {"id": numbered(code), "step_code": f"'{code}' || n", **provider}
    insert_copies(connection, METADATA.tables["fulfillment_step"], number, named, which)
    attempt = {
        "id": numbered(f"attempt {code}"),
        "step_id": numbered(code),
        "idempotency_key": f"'{code}' || n || t.tenant_id",
        **changes,
    }
    live = f"tenant_id = '{tenant_id}' AND step_id = '{step}' AND settled_at IS NULL"
    insert_copies(connection, METADATA.tables["provider_attempt"], number, attempt, live)


def insert_events(connection: Connection, tenant_id: UUID, number: int) -> None:
    """Insert pending events, each of an aggregate of its own."""
    which = f"position = (SELECT min(position) FROM outbox_event WHERE tenant_id = '{tenant_id}')"
    changes = {"aggregate_id": "gen_random_uuid()", "status": "'PENDING'", "due_at": "clock_timestamp()"}
    insert_copies(connection, OutboxEvent, number, changes, which)
