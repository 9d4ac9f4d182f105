"""How long commands wait for rows that another transaction has locked.

PostgreSQL keeps no histogram of lock waits, so the client times the statements that may wait: those that write, and those that read with a
lock. Their own work takes about the same time every time, so a long time is a wait. A wait that ended in a time-out counts as well.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from workers.runtime import metrics

WRITES = ("UPDATE ", "INSERT ", "DELETE ")
# The lock clause comes last, followed by the name of a table at most.
CLAUSE, CLAUSE_LENGTH = " FOR ", 60
NO_COMMAND = "housekeeping"
_SINCE = "locking_since"


# Cached, because finding the series of a command costs more than counting a wait.
_waits_of = cache(metrics.DATABASE_LOCK_WAIT.labels)


def time_locks(engine: Engine) -> None:
    """Time the statements of this pool that may wait, under the command that `connection.info` names."""
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", lambda connection, *_: _end(connection))
    event.listen(engine, "handle_error", _end_in_an_error)
    event.listen(engine, "checkin", lambda _, record: record.info.pop("command", None))


def _begin(connection: Any, _cursor: object, statement: str, *_: object) -> None:
    if statement.startswith(WRITES) or CLAUSE in statement[-CLAUSE_LENGTH:]:
        connection.info[_SINCE] = time.perf_counter()


def _end(connection: Any) -> None:
    since = connection.info.pop(_SINCE, None)
    if since is not None:
        _waits_of(connection.info.get("command", NO_COMMAND)).observe(time.perf_counter() - since)


def _end_in_an_error(error: ExceptionContext) -> None:
    if error.connection is not None and not error.connection.invalidated:
        # While SQLAlchemy gets to know the server, nothing is timed, and a connection keeps no notes.
        with suppress(NotImplementedError):
            _end(error.connection)
