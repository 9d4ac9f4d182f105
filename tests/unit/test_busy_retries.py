"""A unit of work runs again when the database could not decide, a limited number of times."""

from __future__ import annotations

import pytest
from psycopg.errors import ConnectionTimeout, DeadlockDetected, LockNotAvailable, QueryCanceled, TransactionTimeout
from sqlalchemy.exc import OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.errors import Conflict, DomainError, OutcomeUnknownError, TryAgain
from domain.retry_rules import COMMAND_BUSY
from workers.runtime.database_connection import NoResponseError
from workers.runtime.retries import until_decided


def busy(cause: Exception) -> TryAgain:
    error = TryAgain()
    error.__cause__ = OperationalError("UPDATE", {}, cause)
    return error


class Work:
    """Fails with these errors in turn, then succeeds."""

    def __init__(self, *errors: DomainError) -> None:
        self.errors = list(errors)
        self.runs = 0

    def __call__(self) -> str:
        self.runs += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


@pytest.mark.parametrize("error", [busy(DeadlockDetected()), TryAgain(), OutcomeUnknownError()])
def test_a_unit_of_work_runs_again_after_a_transient_error(error: DomainError) -> None:
    work = Work(error, error)

    assert until_decided(work) == "done"
    assert work.runs == 3


def away(cause: Exception) -> TryAgain:
    error = TryAgain()
    error.__cause__ = cause
    return error


WAITED = [
    busy(LockNotAvailable()),
    busy(QueryCanceled()),
    busy(TransactionTimeout()),
    busy(NoResponseError()),
    busy(ConnectionTimeout()),
    away(PoolTimeoutError()),
]


@pytest.mark.parametrize("error", [*WAITED, Conflict()], ids=lambda error: repr(error.__cause__))
def test_a_unit_of_work_does_not_run_again_after_a_refusal_or_when_it_has_spent_the_time_of_a_limit(error: DomainError) -> None:
    work = Work(error)

    with pytest.raises(type(error)):
        until_decided(work)

    assert work.runs == 1


def test_a_deadlock_that_comes_back_is_raised_in_the_end() -> None:
    work = Work(*[busy(DeadlockDetected()) for _ in range(10)])

    with pytest.raises(TryAgain):
        until_decided(work)

    assert work.runs == COMMAND_BUSY.attempts
