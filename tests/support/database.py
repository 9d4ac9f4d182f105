"""The product's database for tests: built by the migrations, as production does, and empty at the start of every test.

It stands beside the database that `database` names, which stays without a schema for tests that need one so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import URL, Engine, FromClause, Select, create_engine, event, func, make_url, select, text

from domain.migrations import migrate
from domain.schema import METADATA
from domain.store import table_of
from domain.store.isolation import EVERY_TENANT
from workers.local.logins import address_of, addresses_of_processes
from workers.runtime.database import connect
from workers.runtime.database_roles import logins_of
from workers.runtime.settings import Settings

_NAME = "q2o_tests"


@pytest.fixture(scope="session")
def migrated(database: str) -> Iterator[Engine]:
    """Make a pool on the migrated database; ask for `db`, which is also empty."""
    with new_database(database, _NAME) as engine:
        yield engine


UNPREPARED = {"prepare_threshold": None}
"""For pools that tests make by hand: statements that are declared prepare themselves."""


@contextmanager
def new_database(database: str, name: str) -> Iterator[Engine]:
    """Make a migrated database that nobody has used, on the server of `database`."""
    server = create_engine(database, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    address = make_url(database).set(database=name).render_as_string(hide_password=False)
    engine = seeing_every_tenant(connect(address, "tests", pool_size=20))
    migrate(engine, logins_of(Settings(addresses_of_processes(address))))
    cleaner = _CLEANERS[engine.url] = Cleaner(address)
    try:
        yield engine
    finally:
        cleaner.close()
        for pool in (engine, *(_ACTING.pop(key) for key in list(_ACTING) if key[0] == engine.url)):
            pool.dispose()


def acting(engine: Engine, process: str) -> Engine:
    """The pool of a process on the same database, with its login: a right that it misses fails the test. A pool that has it is returned."""
    address = address_of(process, engine.url.render_as_string(hide_password=False))
    if engine.url.username == make_url(address).username:
        return engine
    key = engine.url, process
    if key not in _ACTING:
        _ACTING[key] = connect(address, process)
    return _ACTING[key]


def seeing_every_tenant(engine: Engine) -> Engine:
    """Let plain connections read the rows of every tenant. A transaction of the product names its tenant, and row level security binds it to that tenant."""

    def see(connection: Any, _: object) -> None:
        connection.execute("SET q2o.tenant = '*'")
        connection.commit()

    event.listen(engine, "connect", see)
    return engine


@pytest.fixture
def db(migrated: Engine) -> Engine:
    """Give the migrated database, without a row."""
    empty(migrated)
    return migrated


def empty(engine: Engine) -> None:
    """Delete every row, evidence too, of a database that `new_database` made."""
    _CLEANERS[engine.url].empty()


class Cleaner:
    """A session that deletes every row of one database. No trigger fires in it, not even one that protects evidence.

    It deletes, because TRUNCATE makes new files, and has every session plan its statements again.
    """

    def __init__(self, database_url: str) -> None:
        self._address = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._open()

    def empty(self) -> None:
        """Wait until nobody writes, then delete."""
        try:
            self._connection.execute("SELECT pg_temp.empty()")
        except psycopg.OperationalError:
            if not self._connection.closed:
                raise
            self._open()  # a test has ended every session of the database
            self.empty()

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _open(self) -> None:
        options = f"-c session_replication_role=replica -c lock_timeout=5s -c q2o.tenant={EVERY_TENANT}"
        self._connection = psycopg.connect(self._address, autocommit=True, prepare_threshold=0, options=options)
        names = ", ".join(f'public."{table.name}"' for table in METADATA.sorted_tables)
        deletions = " ".join(f'DELETE FROM public."{table.name}";' for table in METADATA.sorted_tables)
        self._connection.execute(
            "CREATE FUNCTION pg_temp.empty() RETURNS void LANGUAGE plpgsql "
            f"AS $$ BEGIN LOCK TABLE {names} IN EXCLUSIVE MODE; {deletions} END $$"
        )


_CLEANERS: dict[URL, Cleaner] = {}
_ACTING: dict[tuple[URL, str], Engine] = {}


def in_order(query: Select[Any], table: FromClause) -> Select[Any]:
    """Order a query by the time when the table's rows were written. Without an order, PostgreSQL returns them in any."""
    return query.order_by(table.c.get("position", table.c.created_at))


def count(db: Engine, entity: Any) -> int:
    """Count the rows of an entity's table."""
    with db.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(table_of(entity))) or 0)
