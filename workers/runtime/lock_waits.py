"""How long commands wait for rows that another transaction has locked, and how often PostgreSQL ends one to break a deadlock.

PostgreSQL keeps no histogram of lock waits, so the client times the statements that may wait: those that write, and those that read with a
lock. Their own work takes about the same time every time, so a long time is a wait. A wait that ended in a time-out counts as well.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext

from workers.runtime import metrics

DEADLOCK = "40P01"
# In a statement that begins with WITH, a part of it may write or lock.
MAY_WAIT = re.compile(
    r"^\s*(?:UPDATE|INSERT|DELETE)\b|\bFOR (?:NO KEY UPDATE|UPDATE|KEY SHARE|SHARE)\b|^\s*WITH\b.*\b(?:UPDATE|INSERT INTO|DELETE FROM)\b",
    re.DOTALL,
)
STATEMENTS = 2_000  # distinct texts; the product has some hundreds
NO_COMMAND = "housekeeping"
_SINCE = "locking_since"


# Cached, because finding the series of a command costs more than counting a wait.
_waits_of = cache(metrics.DATABASE_LOCK_WAIT.labels)


def time_locks(engine: Engine) -> None:
    """Time the statements of this pool that may wait, and count its deadlocks, under the command that `connection.info` names."""
    event.listen(engine, "before_cursor_execute", _begin)
    event.listen(engine, "after_cursor_execute", lambda connection, *_: _end(connection))
    event.listen(engine, "handle_error", _end_in_an_error)
    event.listen(engine, "checkin", lambda _, record: record.info.pop("command", None))


@lru_cache(STATEMENTS)
def may_wait(statement: str) -> bool:
    """Whether a statement may wait for a row that another transaction has locked."""
    return MAY_WAIT.search(statement) is not None


def _begin(connection: Any, _cursor: object, statement: str, *_: object) -> None:
    if may_wait(statement):
        connection.info[_SINCE] = time.perf_counter()


def _end(connection: Any) -> None:
    since = connection.info.pop(_SINCE, None)
    if since is not None:
        _waits_of(_command_of(connection)).observe(time.perf_counter() - since)


def _end_in_an_error(error: ExceptionContext) -> None:
    if error.connection is not None and not error.connection.invalidated:
        # While SQLAlchemy gets to know the server, nothing is timed, and a connection keeps no notes.
        with suppress(NotImplementedError):
            _end(error.connection)
            if getattr(error.original_exception, "sqlstate", None) == DEADLOCK:
                metrics.DATABASE_DEADLOCKS.labels(_command_of(error.connection)).inc()


def _command_of(connection: Any) -> str:
    return str(connection.info.get("command", NO_COMMAND))
