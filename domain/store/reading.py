"""The transaction of a read. It cannot write anything, so a lost connection never leaves its outcome unknown.

All statements of a read see one moment, so that what they return fits together: the page of a list, its total, and how new it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine as Database
from sqlalchemy.exc import DBAPIError

from domain.store.facts import Cause
from domain.store.transactions import transaction
from domain.store.unit_of_work import UnitOfWork

READ_ONLY = "25006"
# The snapshot is taken by the first query, and not by the settings that begin the transaction. A transaction that writes nothing never
# meets a rival, so this costs nothing.
SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@contextmanager
def reading(database: Database, cause: Cause) -> Iterator[UnitOfWork]:
    """Open the transaction of one read; it may be repeated at any time. Raises TypeError when the block writes or locks."""
    try:
        with transaction(database, cause.tenant_id, SNAPSHOT) as connection:
            connection.info["command"] = cause.command
            yield UnitOfWork(connection, cause)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == READ_ONLY:
            # Elsewhere this state means that the server became a standby; here the statement is wrong.
            raise TypeError(f"a read must not write: {error.statement}") from error
        raise
