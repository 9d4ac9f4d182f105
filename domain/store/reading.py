"""The transaction of a read. The database lets it write nothing, so a lost connection never leaves its outcome unknown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine as Database
from sqlalchemy.exc import DBAPIError

from domain.store.facts import Cause
from domain.store.transactions import transaction
from domain.store.unit_of_work import UnitOfWork

READ_ONLY = "25006"


@contextmanager
def reading(database: Database, cause: Cause) -> Iterator[UnitOfWork]:
    """Open the transaction of one read; it may be repeated at any time. Raises TypeError when the block writes or locks."""
    try:
        with transaction(database, cause.tenant_id, "READ ONLY") as connection:
            connection.info["command"] = cause.command
            yield UnitOfWork(connection, cause)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == READ_ONLY:
            # Elsewhere this state means that the server became a standby; here the statement is wrong.
            raise TypeError(f"a read must not write: {error.statement}") from error
        raise
