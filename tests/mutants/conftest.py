"""One transaction for all stories of a module; each story runs in a savepoint."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Connection, Engine

from tests.mutants.trial import Trial


@pytest.fixture(scope="module")
def transaction(migrated: Engine) -> Iterator[Connection]:
    """A transaction that never commits."""
    with migrated.connect() as connection:
        yield connection


@pytest.fixture
def trial(transaction: Connection) -> Iterator[Trial]:
    """Give builders for a new tenant, which is rolled back after the test."""
    savepoint = transaction.begin_nested()
    yield Trial(transaction)
    savepoint.rollback()
