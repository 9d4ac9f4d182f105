"""Tells an outage from a failure: when the database or the engine is away, the task did nothing wrong.

The rule it keeps: an outage uses no attempt, or every task in work would be an incident after it.
"""

from __future__ import annotations

import random
from datetime import timedelta

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.errors import OutcomeUnknownError, TryAgain
from workers.runtime.engine import EngineAnswerUnknownError, EngineUnavailableError

# SQLSTATE: connection exception, insufficient resources, operator intervention (a statement time-out, 57014, is none).
_STATES = ("08", "53", "57P")
_SHORTEST, _LONGEST = 3.0, 8.0  # seconds; spread, because all tasks of all pods meet the same outage


def is_outage(error: BaseException) -> bool:
    """Whether this says that the database or the engine could not be reached, or that the database could not decide in time."""
    if isinstance(error, (EngineUnavailableError, EngineAnswerUnknownError, PoolTimeoutError, TryAgain, OutcomeUnknownError)):
        return True
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # No server said anything: it was not there.
        return isinstance(error, (OperationalError, InterfaceError))
    return error.connection_invalidated or str(state).startswith(_STATES)


def wait_for_recovery() -> timedelta:
    return timedelta(seconds=random.uniform(_SHORTEST, _LONGEST))  # noqa: S311 - jitter
