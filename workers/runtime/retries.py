"""How loops live through outages of the database, the engine or Kafka, and commands through busy moments of the database.

The rules it keeps: an outage is logged once when it begins and once when it ends (every minute, when only a person can end it), waited out
with jitter up to ten seconds, and never ends a process; whatever is not an outage does. A unit of work is repeated as a whole, never a
single statement of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event, Lock
from typing import TypeVar

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_after_attempt, stop_when_event_set
from tenacity.wait import wait_random_exponential

from domain.errors import OutcomeUnknownError, TryAgain
from domain.retry_rules import COMMAND_BUSY, SERVICE_AWAY, RetryRule
from workers.runtime.outages import has_waited, is_waited_out, needs_a_person

REMINDER = timedelta(minutes=1)  # a person who looks at the last lines of a log finds the reason

_Value = TypeVar("_Value")

_log = structlog.get_logger()


class OutageLog:
    """Logs one line when an outage of a service begins, and one when it has ended, with how long it took.

    An outage that only a person can end, because a certificate is not accepted, is an error, and is logged again every minute.
    """

    def __init__(self, service: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._lock = Lock()
        self._began: float | None = None
        self._failures = 0
        self._reminded: float | None = None

    def failed(self, error: BaseException) -> None:
        """Note a failed call; the first one begins the outage. Any thread may call it."""
        with self._lock:
            self._note(error)

    def _note(self, error: BaseException) -> None:
        self._failures += 1
        now = self._clock()
        if needs_a_person(error):
            self._remind(error, now)
        elif self._began is None:
            _log.warning("service_unavailable", service=self._service, reason=str(error), kind=type(error).__name__)
        if self._began is None:
            self._began = now

    def _remind(self, error: BaseException, now: float) -> None:
        if self._reminded is None or now - self._reminded >= REMINDER.total_seconds():
            self._reminded = now
            _log.error("service_untrusted", service=self._service, reason=str(error), kind=type(error).__name__)

    def worked(self) -> None:
        """Note a call that succeeded, which ends an outage. Any thread may call it."""
        if self._began is None:
            return
        with self._lock:
            if self._began is not None:
                seconds = round(self._clock() - self._began, 3)
                _log.info("service_available_again", service=self._service, attempts=self._failures + 1, seconds=seconds)
            self._began, self._failures, self._reminded = None, 0, None


def until_available(
    call: Callable[[], _Value], stop: Event, *, service: str, outages_too: tuple[type[Exception], ...] = ()
) -> _Value | None:
    """Call until it succeeds, and wait out outages; other errors pass. Returns None when `stop` is set first.

    `outages_too`: further errors that this caller waits out.
    """
    return _until(call, stop, service, lambda error: is_waited_out(error) or isinstance(error, outages_too))


def until_begun(call: Callable[[], _Value], stop: Event, *, service: str) -> _Value | None:
    """As `until_available`, for a process that starts: an outage that only a person can end passes, because that person is there."""
    return _until(call, stop, service, lambda error: is_waited_out(error) and not needs_a_person(error))


def _until(call: Callable[[], _Value], stop: Event, service: str, is_waited: Callable[[BaseException], bool]) -> _Value | None:
    outage = OutageLog(service)

    def call_and_note() -> _Value:
        result = call()
        outage.worked()
        return result

    retrying = Retrying(
        retry=retry_if_exception(is_waited),
        wait=_waits(SERVICE_AWAY),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=lambda state: _note_failure(state, outage),
        retry_error_callback=lambda _: None,
    )
    return retrying(call_and_note)


def repeat(run_once: Callable[[], int], stop: Event, *, service: str, idle: timedelta = timedelta(seconds=1)) -> None:
    """Run until `stop` is set: again at once while there is work, after `idle` when there was none, on through outages."""
    while not stop.is_set():
        if not until_available(run_once, stop, service=service):
            stop.wait(idle.total_seconds())


def until_decided(unit_of_work: Callable[[], _Value]) -> _Value:
    """Run a whole unit of work; run it up to three times more when the database could not decide, or the response to COMMIT was lost.

    Only for units of work that are safe to repeat: one that begins with a claim (idempotency key, event id) learns from the claim whether
    a lost COMMIT happened.
    What has spent the time of a limit is not repeated: its caller has waited long enough. Raises what the last run raised.
    """
    retrying = Retrying(
        retry=retry_if_exception(_may_be_decided_now),
        wait=_waits(COMMAND_BUSY),
        stop=stop_after_attempt(COMMAND_BUSY.attempts),
        reraise=True,
    )
    return retrying(unit_of_work)


def _waits(rule: RetryRule) -> wait_random_exponential:
    return wait_random_exponential(multiplier=rule.first_wait.total_seconds(), max=rule.longest_wait.total_seconds())


def _may_be_decided_now(error: BaseException) -> bool:
    if isinstance(error, TryAgain):
        return not has_waited(error.__cause__)
    return isinstance(error, OutcomeUnknownError)


def _note_failure(state: RetryCallState, outage: OutageLog) -> None:
    error = state.outcome.exception() if state.outcome is not None else None
    if error is not None:
        outage.failed(error)
