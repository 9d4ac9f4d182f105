"""Databases without a schema, for the migrations to build."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from tests.support.database import UNPREPARED


@pytest.fixture
def two_databases(database: str) -> Iterator[tuple[Engine, Engine]]:
    """Make two empty databases."""
    server = create_engine(database, isolation_level="AUTOCOMMIT")
    names = [f"schema_{uuid4().hex}" for _ in range(2)]
    with server.connect() as connection:
        for name in names:
            connection.execute(text(f"CREATE DATABASE {name}"))
    engines = [create_engine(make_url(database).set(database=name), connect_args=UNPREPARED) for name in names]
    yield engines[0], engines[1]
    for engine in (*engines, server):
        engine.dispose()
