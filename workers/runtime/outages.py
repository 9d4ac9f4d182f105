"""The one definition of an outage: the database, the engine or Kafka cannot be reached, or the database could not decide in time.

The rule it keeps: an outage passes without a change of ours, so it costs no try and ends no loop. Whatever is not an outage does.
"""

from __future__ import annotations

import re

from psycopg.errors import ConnectionTimeout
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.errors import OutcomeUnknownError, TryAgain
from domain.store.unit_of_work import BUSY
from workers.runtime.database_connection import NoResponseError
from workers.runtime.database_states import NO_ROOM, SESSION_IS_USELESS, TOO_SLOW

ACCESS_RULE = "42"  # the class of SQLSTATEs for a table, a column or a right that is not there
LOCK_TIMEOUT = "55P03"
_PASSES = (*SESSION_IS_USELESS, *NO_ROOM, *BUSY)
# libpq has no code for a connection that it, the server or a pooler does not accept, only these words.
_DISTRUST = re.compile(
    r"certificate|private key|\balert\b|no encryption|SSL required|does not support SSL"
    r"|authentication failed|no pg_hba\.conf entry|no password supplied|not permitted to log in|permission denied for database"
    r'|(?:role|database|user) "[^"]*" does not exist|no such (?:user|database)'
    r"|unsupported startup parameter|statement pooling"
    r"|unrecognized configuration parameter|invalid value for parameter|invalid command-line argument|requires a value"
)


class OutageError(Exception):
    """A service cannot be reached, or gave no usable response. The doors to the engine and to Kafka raise subclasses."""


class UntrustedError(OutageError):
    """A service and this process do not accept each other's certificate or password: the outage lasts until a person puts that right."""


def needs_a_person(error: BaseException) -> bool:
    """Whether an outage ends only when a person has corrected a certificate, a password or a setting."""
    return isinstance(error, UntrustedError) or (
        is_database_outage(error) and _DISTRUST.search(str(getattr(error, "orig", ""))) is not None
    )


def is_outage(error: BaseException) -> bool:
    """Whether the same call may succeed later although nothing but time has passed."""
    return isinstance(error, (OutageError, TryAgain, OutcomeUnknownError)) or is_database_outage(error)


def is_database_outage(error: BaseException) -> bool:
    """Whether the database cannot be reached, has no room, or let a rival go first; a statement that it refuses is no outage."""
    if isinstance(error, PoolTimeoutError):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = sqlstate_of(error)
    if state in TOO_SLOW:
        return False
    if error.connection_invalidated:
        return True
    if state is None:
        # Without a state no server has responded: the connection is gone, or never came about.
        return isinstance(error, (OperationalError, InterfaceError))
    return state.startswith(_PASSES)


def is_away(error: BaseException) -> bool:
    """Whether the database itself cannot be reached: then another statement would fail as well."""
    if isinstance(error, PoolTimeoutError):
        return True
    return isinstance(error, DBAPIError) and is_database_outage(error) and sqlstate_of(error) not in BUSY


def is_waited_out(error: BaseException) -> bool:
    """Whether a loop goes on after this error: every outage, and work of the database that took too long.

    A task counts such work as a failed attempt. A loop has no attempts to count, and its end would make no statement faster.
    """
    return is_outage(error) or sqlstate_of(error) in TOO_SLOW


def has_waited(error: BaseException | None) -> bool:
    """Whether the caller has spent the time of a limit, so that nobody should have to wait for a second try."""
    orig = getattr(error, "orig", None)
    return (
        isinstance(error, PoolTimeoutError)
        or isinstance(orig, (NoResponseError, ConnectionTimeout))
        or sqlstate_of(error) in {LOCK_TIMEOUT, *TOO_SLOW}
    )


def is_about_every_item(error: BaseException) -> bool:
    """Whether the database refuses what a loop does with each item, because its schema or the rights of its login are of another release.

    To set items aside would lose them all, one after the other.
    """
    return (sqlstate_of(error) or "").startswith(ACCESS_RULE)


def sqlstate_of(error: BaseException | None) -> str | None:
    """PostgreSQL's code of a database error, None for any other error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)
