"""What PostgreSQL's error codes (SQLSTATE) say about a session, and whether it can still be used.

A session that is of no use is dropped with all others of its pool, so that the next command connects again and finds the server that serves
by then. `docs/database.md` lists the states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SESSION_IS_USELESS: Final[Mapping[str, str]] = {
    "08": "the connection is lost, or the pooler between us and the server has ended it",
    "25006": "the server became a standby: it reads, and writes nothing any more",
    "25P03": "this process paused within a transaction for too long, and the server has ended the session",
    "25P04": "the transaction lasted too long, and the server has ended the session",
    "26000": "the session lacks a statement that we had prepared: a pooler has given us another session",
    "42P05": "the session has a statement of ours already: a pooler has given us another session",
    "57P01": "an administrator, or a server that stops, has ended the session",
    "57P02": "the server restarts after a crash",
    "57P03": "the server starts, stops or recovers",
    "57P04": "the database was dropped",
    "57P05": "the server has ended a session that was idle for too long",
}
"""SQLSTATE, or its class -> what happened. The same command may succeed on another session, although nothing but time has passed."""
NO_ROOM: Final[Mapping[str, str]] = {
    "53": "the server has no connection, memory or disk left",
}
"""SQLSTATE, or its class -> what happened. The session stays; the same command may succeed later."""
TOO_SLOW: Final[Mapping[str, str]] = {
    "57014": "a statement took longer than statement_timeout",
    "25P04": "a transaction took longer than transaction_timeout",
}
"""A loop waits and goes on; a task counts it as a failed attempt, because time alone makes no statement faster."""


def is_useless(sqlstate: str | None) -> bool:
    """Whether a session that has met this error is to be dropped."""
    return sqlstate is not None and sqlstate.startswith(tuple(SESSION_IS_USELESS))
