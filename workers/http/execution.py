"""Carrying out a command once: claim, authorization, command, stored answer, in one unit of work.

The order is the design's: idempotency lookup, authorization, preconditions, execution. A refusal leaves nothing, its claim included.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from domain.errors import DomainError, NotFound, OutcomeUnknownError, Refusal, TryAgain
from domain.store import Answer, Cause, UnitOfWork, once, remember, unit_of_work
from domain.store.unit_of_work import housekeeping
from workers.runtime import metrics
from workers.runtime.outages import is_outage, sqlstate_of
from workers.runtime.refusals import record_refusal
from workers.runtime.retries import until_decided

DEADLOCK = "40P01"
UNREACHABLE = "The database cannot be reached right now; nothing was changed."

_Value = TypeVar("_Value")
Work = Callable[[UnitOfWork], Answer]
Allow = Callable[[UnitOfWork], None]


class Executor:
    """Runs commands and reads against one database."""

    def __init__(self, database: Engine) -> None:
        self._database = database

    def command(self, cause: Cause, request: Mapping[str, Any], allow: Allow, work: Work) -> Answer:
        """Do `work` once for the cause's idempotency key; a repeat gets the stored answer. `allow` raises Forbidden, NotFound.

        Raises what the domain refuses with, TryAgain, OutcomeUnknownError.
        """
        key = str(cause.idempotency_key)

        def claim_and_work(uow: UnitOfWork) -> Answer:
            stored = once(uow, key, request)
            if stored is not None:
                return stored
            allow(uow)
            answer = work(uow)
            remember(uow, key, answer)
            return answer

        started = time.perf_counter()
        outcome = "failed"
        try:
            answer = self.decided(cause, claim_and_work)
            outcome = "replayed" if answer.replayed else "executed"
        except Refusal:
            outcome = "refused"
            raise
        finally:
            metrics.COMMAND_DURATION.labels(cause.command, outcome).observe(time.perf_counter() - started)
        if answer.replayed:
            metrics.IDEMPOTENCY_REPLAYS.labels(cause.command).inc()
        return answer

    def decided(self, cause: Cause, work: Callable[[UnitOfWork], _Value]) -> _Value:
        """One unit of work that begins with a claim, repeated whole while the database could not decide.

        Raises refusals (logged and counted), TryAgain when nothing was changed, OutcomeUnknownError when that is not known.
        """
        attempts = _Attempts(self._database, cause, work)
        try:
            result = until_decided(attempts.run)
        except Refusal as refusal:
            attempts.resolve("executed")  # it could claim, so the lost commit had left nothing
            record_refusal(refusal, cause)
            raise
        except DomainError as error:
            attempts.resolve("unresolved")
            if attempts.lost_commit:
                raise OutcomeUnknownError from error
            raise
        attempts.resolve("replayed" if getattr(result, "replayed", False) else "executed")
        return result

    def reach_database(self) -> None:
        """Ask the database for a sign of life. Raises TryAgain when there is none."""
        try:
            with housekeeping(self._database) as connection:
                connection.execute(text("SELECT 1"))
        except (DBAPIError, PoolTimeoutError) as error:
            raise TryAgain(UNREACHABLE) from error

    def read(self, cause: Cause, look: Callable[[UnitOfWork], _Value]) -> _Value:
        """Look something up. Raises NotFound, TryAgain."""
        missing: NotFound | None = None
        try:
            with unit_of_work(self._database, cause) as uow:
                try:
                    return look(uow)
                except NotFound as refusal:
                    # Kept from the unit of work, which would log a refused command: a look is none.
                    missing = refusal
        except (DBAPIError, PoolTimeoutError) as error:
            if not is_outage(error):
                raise
            raise TryAgain(UNREACHABLE) from error
        raise missing


class _Attempts(Generic[_Value]):
    """The attempts of one unit of work, and whether the answer to one of their commits was lost."""

    def __init__(self, database: Engine, cause: Cause, work: Callable[[UnitOfWork], _Value]) -> None:
        self._database = database
        self._cause = cause
        self._work = work
        self.lost_commit = False

    def run(self) -> _Value:
        try:
            with unit_of_work(self._database, self._cause) as uow:
                return self._work(uow)
        except OutcomeUnknownError:
            self.lost_commit = True
            raise
        except TryAgain as busy:
            if sqlstate_of(busy.__cause__) == DEADLOCK:
                metrics.DATABASE_DEADLOCKS.labels(self._cause.command).inc()
            raise
        except (DBAPIError, PoolTimeoutError) as error:
            if not is_outage(error):
                raise
            # COMMIT was not sent: the database has rolled back, or will when it notices that we are gone.
            raise TryAgain(UNREACHABLE) from error

    def resolve(self, resolution: str) -> None:
        if self.lost_commit:
            metrics.COMMIT_UNKNOWN.labels(self._cause.command, resolution).inc()
