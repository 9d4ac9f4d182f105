"""The database that schedules are played on. It is restored before each schedule, and watched from a connection of its own.

Its schema `kept` holds a copy of every row of the prepared world, `explorer` a clock: sessions of the explorer find
`explorer.clock_timestamp()` before the server's own, so that time passes when a schedule says so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table, make_url

from domain.schema import METADATA
from domain.store.isolation import EVERY_TENANT
from tests.races.explorer.sessions import connect
from tests.support.database import empty, new_database, seeing_every_tenant

# A world is some dozen rows, and each schedule leaves dead ones. It is seldom, because every session plans its statements again afterwards.
VACUUM_EVERY = 500
_SCHEMA = """
CREATE SCHEMA kept;
CREATE SCHEMA explorer;
CREATE SEQUENCE explorer.clock MINVALUE 0 START 0;
-- A sequence, because time passes in the middle of transactions.
CREATE FUNCTION explorer.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.clock_timestamp() + last_value * interval '1 second' FROM explorer.clock $$;
"""


@contextmanager
def stage_on(database_url: str, name: str) -> Iterator[Stage]:
    """Make a stage on a server that is `open_to_tests`."""
    with new_database(database_url, name) as engine:
        stage = Stage(engine.url.render_as_string(hide_password=False))
        try:
            yield stage
        finally:
            stage.close()


class Stage:
    """A migrated database of the explorer's own. Everything in it may be deleted."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.engine = seeing_every_tenant(connect(database_url, "stage"))
        self._tables: list[Table] = METADATA.sorted_tables
        self._schedules = 0
        self._functions: set[str] = set()
        self._ahead = self._kept_ahead = timedelta(0)
        self._controller = self._connect("controller")
        # Triggers do not fire for a replica. The function does not set this: each change makes a session drop its plans.
        self._restorer = self._connect("restorer", "-c session_replication_role=replica")
        self._controller.execute(_SCHEMA, prepare=False)
        for table in self._tables:
            self._controller.execute(_of("CREATE TABLE {copy} (LIKE {table})", table))
        self._controller.execute(self._keeping())
        self._controller.execute(self._restoring())

    def close(self) -> None:
        """Close the connection."""
        self._controller.close()
        self._restorer.close()
        self.engine.dispose()

    def _connect(self, name: str, options: str = "") -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(
            make_url(self.database_url).set(drivername="postgresql").render_as_string(hide_password=False),
            autocommit=True,
            prepare_threshold=0,
            options=f"-c jit=off -c synchronous_commit=off -c plan_cache_mode=force_generic_plan -c q2o.tenant={EVERY_TENANT} {options}",
            application_name=f"explorer {name}",
        )

    def clear(self) -> None:
        """Begin a new world: no rows, and the server's own time."""
        empty(self.engine)
        self.set_clock(timedelta(0))

    def keep(self) -> None:
        """Remember the present rows, which `restore` puts back."""
        self._controller.execute("SELECT explorer.keep()")
        self._kept_ahead = self._ahead

    def restore(self, written: Collection[str] | None = None) -> int:
        """Restore the rows of these tables (default: all), also of append-only tables; returns how many rows were deleted or inserted."""
        names = [table.name for table in self._tables] if written is None else list(written)
        self.set_clock(self._kept_ahead)
        self._schedules += 1
        if names and self._schedules % VACUUM_EVERY == 0:
            self._controller.execute(sql.SQL("VACUUM {}").format(sql.SQL(", ").join(map(sql.Identifier, names))))
        answer = self._restorer.execute("SELECT explorer.restore(%s)", [names]).fetchone()
        return int(answer[0])  # type: ignore[index]  # one row

    def set_clock(self, ahead: timedelta) -> None:
        """Set the explorer's clock ahead of the server's."""
        if ahead != self._ahead:
            self._controller.execute("SELECT setval('explorer.clock', %s)", [int(ahead.total_seconds())])
            self._ahead = ahead

    def is_blocked(self, pid: int, others: Sequence[int]) -> bool:
        """Whether a session waits for a lock that one of the others has, or waits for before it."""
        answer = self._controller.execute(
            "SELECT pg_catalog.pg_isolation_test_session_is_blocked(%s, %s::int[])", [pid, list(others)]
        )
        return bool(answer.fetchone()[0])  # type: ignore[index]  # one row

    def define(self, name: str, function: sql.Composed) -> None:
        """Create a function of the explorer's schema, unless it is there."""
        if name not in self._functions:
            self._controller.execute(function)
            self._functions.add(name)

    def look(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Read what a schedule has written."""
        return self._controller.execute(query, parameters).fetchall()

    def _keeping(self) -> sql.Composed:
        """The statement that creates the copying function. It deletes: TRUNCATE has every session plan its statements again."""
        copying = sql.SQL("\n").join(
            _of("DELETE FROM {copy}; INSERT INTO {copy} SELECT * FROM {table};", table) for table in self._tables
        )
        return sql.SQL("CREATE FUNCTION explorer.keep() RETURNS void LANGUAGE plpgsql AS $keep$ BEGIN\n{}\nEND $keep$").format(
            copying
        )

    def _restoring(self) -> sql.Composed:
        """The statement that creates the restoring function. It is a function because every schedule calls it and its plans are kept."""
        statements = sql.SQL("\n").join(
            sql.SQL(
                "IF {name} = ANY(written) THEN\n"
                "DELETE FROM {table} t WHERE NOT EXISTS (SELECT FROM {copy} c WHERE {same} AND c = t); GET DIAGNOSTICS rows = ROW_COUNT; total := total + rows;\n"
                "INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {copy} c WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same});\n"
                "GET DIAGNOSTICS rows = ROW_COUNT; total := total + rows; END IF;"
            ).format(
                name=sql.Literal(table.name),
                table=sql.Identifier("public", table.name),
                copy=sql.Identifier("kept", table.name),
                same=sql.SQL(" AND ").join(
                    sql.SQL("t.{0} = c.{0}").format(sql.Identifier(column.name)) for column in table.primary_key
                ),
            )
            for table in self._tables
        )
        return sql.SQL(
            "CREATE FUNCTION explorer.restore(written text[]) RETURNS bigint LANGUAGE plpgsql AS $restore$ DECLARE rows bigint; total bigint := 0; BEGIN\n{}\nRETURN total; END $restore$"
        ).format(statements)


def _of(statement: str, table: Table) -> sql.Composed:
    """Name a table and its copy in a statement."""
    return sql.SQL(statement).format(table=sql.Identifier("public", table.name), copy=sql.Identifier("kept", table.name))
