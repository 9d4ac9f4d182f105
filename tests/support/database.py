"""The product's database for tests: built by the migrations, as production does, and empty at the start of every test.

It stands beside the database that `database` names, which stays without a schema for tests that need one so.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, make_url, select, text, union_all
from sqlalchemy.sql.elements import quoted_name

from domain.migrations import migrate
from domain.schema import METADATA
from domain.store import table_of
from workers.runtime.database import connect

_NAME = "q2o_tests"


@pytest.fixture(scope="session")
def migrated(database: str) -> Iterator[Engine]:
    """Make a pool on the migrated database; ask for `db`, which is also empty."""
    with new_database(database, _NAME) as engine:
        yield engine


@contextmanager
def new_database(database: str, name: str) -> Iterator[Engine]:
    """Make a migrated database that nobody has used, on the server of `database`."""
    server = create_engine(database, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    server.dispose()
    address = make_url(database).set(database=name).render_as_string(hide_password=False)
    engine = seeing_every_tenant(connect(address, "tests", pool_size=20))
    migrate(engine)
    yield engine
    engine.dispose()


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
    """Delete every row, evidence too: TRUNCATE does not fire the triggers that protect evidence."""
    filled = union_all(
        *(
            select(text(f"'{table.name}'")).where(select(text("1")).select_from(table).limit(1).exists())
            for table in METADATA.sorted_tables
        )
    )
    with engine.begin() as connection:
        names = [quoted_name(name, quote=True) for name in connection.scalars(filled)]
        if names:
            connection.execute(text(f"TRUNCATE {', '.join(names)} CASCADE"))


def count(db: Engine, entity: Any) -> int:
    """Count the rows of an entity's table."""
    with db.connect() as connection:
        return int(connection.scalar(select(func.count()).select_from(table_of(entity))) or 0)
