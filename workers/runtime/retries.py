"""How loops live through outages of the database, the engine or Kafka, and commands through busy moments of the database.

The rules it keeps: an outage is logged once when it begins and once when it ends, waited out with jitter up to ten seconds, and never
ends a process; whatever is not an outage does. A unit of work is repeated whole, never a statement of it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_exception_type
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_attempt, stop_when_event_set
from tenacity.wait import wait_random_exponential

from domain.errors import OutcomeUnknownError, TryAgain

LONGEST_WAIT = timedelta(seconds=10)  # a service that came back is noticed within this time
FIRST_WAIT = timedelta(seconds=0.25)
BUSY_REPEATS = 3  # a deadlock that comes back three times is a fault of lock order, not bad luck
LONGEST_BUSY_WAIT = timedelta(seconds=0.2)  # rivals are done within a few commits
LOCK_TIMEOUT_STATE = "55P03"

_Value = TypeVar("_Value")

_log = structlog.get_logger()


def until_available(call: Callable[[], int], stop: Event, *, service: str, outages: tuple[type[Exception], ...]) -> int:
    """Call until it succeeds; exceptions of `outages` are waited out, others pass. Returns 0 when `stop` is set first."""
    retrying = Retrying(
        retry=retry_if_exception_type(outages),
        wait=wait_random_exponential(multiplier=FIRST_WAIT.total_seconds(), max=LONGEST_WAIT.total_seconds()),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=lambda state: _log_beginning(state, service),
        reraise=True,
    )
    try:
        result = retrying(call)
    except outages:
        return 0
    if retrying.statistics.get("attempt_number", 1) > 1:
        _log.info("service_available_again", service=service, attempts=retrying.statistics["attempt_number"])
    return result


def repeat(
    run_once: Callable[[], int],
    stop: Event,
    *,
    service: str,
    outages: tuple[type[Exception], ...],
    idle: timedelta = timedelta(seconds=1),
) -> None:
    """Run until `stop` is set: at once again while there is work, after `idle` when there was none, on through outages."""
    while not stop.is_set():
        if not until_available(run_once, stop, service=service, outages=outages):
            stop.wait(idle.total_seconds())


def until_decided(unit_of_work: Callable[[], _Value]) -> _Value:
    """Run a whole unit of work; run it up to three times more when the database could not decide, or lost the answer to COMMIT.

    Only for units of work that are safe to repeat: one that begins with a claim (idempotency key, event id) learns from it whether a
    lost COMMIT happened.
    A lock time-out is not repeated: its caller has waited long enough. Raises what the last run raised.
    """
    retrying = Retrying(
        retry=retry_if_exception(_may_be_decided_now),
        wait=wait_random_exponential(multiplier=0.02, max=LONGEST_BUSY_WAIT.total_seconds()),
        stop=stop_after_attempt(1 + BUSY_REPEATS),
        reraise=True,
    )
    return retrying(unit_of_work)


def _may_be_decided_now(error: BaseException) -> bool:
    if isinstance(error, TryAgain):
        return sqlstate_of(error.__cause__) != LOCK_TIMEOUT_STATE
    return isinstance(error, OutcomeUnknownError)


def sqlstate_of(error: BaseException | None) -> str | None:
    """PostgreSQL's code of a database error, None for any other error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _log_beginning(state: RetryCallState, service: str) -> None:
    if state.attempt_number == 1 and state.outcome is not None:
        _log.warning("service_unavailable", service=service, reason=str(state.outcome.exception()))
