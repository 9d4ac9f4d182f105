"""Carries out a command once: the claim of its key, authorization, the command and the stored answer, in one unit of work.

The rule: the idempotency key is claimed first, so that a repeat is a replay and not a version conflict; then come authorization,
preconditions and the command. A refusal leaves nothing behind, not even its claim. See `docs/domain.md#refusals-logs-and-metrics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from sqlalchemy import Engine as Database
from sqlalchemy.exc import SQLAlchemyError

from domain.errors import DomainError, OutcomeUnknownError, Refusal, TryAgain
from domain.store import Answer, Cause, UnitOfWork, once, reading, remember
from workers.runtime import metrics
from workers.runtime.commands import unit_of_work
from workers.runtime.outages import is_waited_out
from workers.runtime.retries import OutageLog, until_decided

UNREACHABLE = "The database cannot be reached right now; nothing was changed."

_Value = TypeVar("_Value")
Work = Callable[[UnitOfWork], Answer]
Allow = Callable[[UnitOfWork], None]


class Executor:
    """Runs commands and reads against one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._outage = _Outage()

    def command(self, cause: Cause, request: Mapping[str, Any], allow: Allow, work: Work) -> Answer:
        """Carry out `work` once for the cause's idempotency key; a repeat gets the stored answer. `allow` raises Forbidden, NotFound.

        Raises the domain's refusals, TryAgain, OutcomeUnknownError.
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
        """Run one unit of work that begins with a claim, and repeat the whole of it while the database cannot decide.

        Raises refusals (logged and counted), TryAgain when nothing was changed, OutcomeUnknownError when it is not known what was changed.
        """
        tries = _Tries(self._database, self._outage, cause, work)
        try:
            result = until_decided(tries.run)
        except Refusal:
            tries.resolve("executed")  # this try could claim the key, so the lost commit had changed nothing
            raise
        except DomainError as error:
            tries.resolve("unresolved")
            if tries.lost_commit:
                raise OutcomeUnknownError from error
            raise
        tries.resolve("replayed" if getattr(result, "replayed", False) else "executed")
        return result

    def read(self, cause: Cause, read: Callable[[UnitOfWork], _Value]) -> _Value:
        """Run a read, again when its connection is lost. Raises NotFound, TryAgain."""

        def read_once() -> _Value:
            with self._outage.as_try_again(), reading(self._database, cause) as uow:
                return read(uow)

        return until_decided(read_once)


class _Outage:
    """Logs when the database went away and when it came back, and answers TRY_AGAIN meanwhile."""

    def __init__(self) -> None:
        self._log = OutageLog("database of the HTTP edge")

    @contextmanager
    def as_try_again(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            if not is_waited_out(error):
                raise
            self._log.failed(error)
            raise TryAgain(UNREACHABLE) from error
        else:
            self._log.worked()


class _Tries(Generic[_Value]):
    """The tries of one unit of work, and whether the reply to one of their commits was lost."""

    def __init__(self, database: Database, outage: _Outage, cause: Cause, work: Callable[[UnitOfWork], _Value]) -> None:
        self._database = database
        self._outage = outage
        self._cause = cause
        self._work = work
        self.lost_commit = False

    def run(self) -> _Value:
        try:
            # When COMMIT was not sent, the database has rolled back, or will when it notices the lost connection.
            with self._outage.as_try_again(), unit_of_work(self._database, self._cause) as uow:
                return self._work(uow)
        except OutcomeUnknownError:
            self.lost_commit = True
            raise

    def resolve(self, resolution: str) -> None:
        if self.lost_commit:
            metrics.COMMIT_UNKNOWN.labels(self._cause.command, resolution).inc()
