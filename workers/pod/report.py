"""Reports the outcome of a task to the engine, until it is settled or no longer counts.

The rule it keeps: after a lost response, or a 500, the task is read again. When it is gone, it is settled; when it is still locked for
this pod, the report is sent again; when another worker has locked it, it is lost, and nothing more is reported. A report that the engine
keeps refusing becomes a failure, with the engine's own text; one that gets no usable reply for too long becomes an incident.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus

import structlog

from domain.retry_rules import REPORT_FAULT, REPORT_RACE, REPORT_SILENCE, REPORT_UNANSWERED, RetryRule
from workers.pod.lease import Clock, Lease, LockState, examine, regain
from workers.pod.outcomes import Completed, Failed, Outcome, Raised, refused, unanswered
from workers.runtime.engine import Engine, EngineError, EngineLockedOutError, EngineOutcomeUnknownError, EngineRefusedError
from workers.runtime.metrics import EXTERNAL_TASK_REPORT_RETRIES

_DOUBLINGS = 10  # of the first wait, which make it longer than the longest one

_log = structlog.get_logger()


class Settled(StrEnum):
    """How a report ended, which is the `outcome` label of the task's duration."""

    COMPLETED = "completed"
    BPMN_ERROR = "bpmn_error"
    FAILED = "failed"
    INCIDENT = "incident"
    POSTPONED = "postponed"
    LOCK_LOST = "lock_lost"
    GONE = "gone"
    UNREPORTED = "unreported"

    @property
    def ends_the_task(self) -> bool:
        """Whether the engine offers the task to nobody any more, or only after a person's retry."""
        return self in {Settled.COMPLETED, Settled.BPMN_ERROR, Settled.INCIDENT, Settled.GONE}


class _GivenUpError(Exception):
    """This report is not sent again."""


class _RefusedForGoodError(_GivenUpError):
    """The engine refuses this report, however often it is sent."""


class _UnansweredError(_GivenUpError):
    """This report has had no usable reply for as long as the table of retries says, although the engine answers."""


class Reporter:
    """Sends outcomes. Never raises: an outcome that cannot be reported is logged, and the task is fetched again when its lock expires."""

    def __init__(self, engine: Engine, *, clock: Clock = time.monotonic, pause: Callable[[float], None] = time.sleep) -> None:
        self._engine = engine
        self._clock = clock
        self._pause = pause

    def report(self, lease: Lease, outcome: Outcome) -> tuple[Settled, Outcome]:
        """Report, and return how the report ended and which outcome was reported in the end."""
        delivery = _Delivery(self._engine, lease, outcome, self._clock)
        try:
            return self._deliver(delivery), outcome
        except _GivenUpError as end:
            _log_given_up(outcome, end)
            fallback = _instead(lease, outcome, end)
        try:
            return self._deliver(_Delivery(self._engine, lease, fallback, self._clock, delivery.unanswered_since)), fallback
        except _GivenUpError as end:
            _log.error("task_report_refused", reason=str(end))
            return Settled.UNREPORTED, fallback

    def _deliver(self, delivery: _Delivery) -> Settled:
        while True:
            settled = delivery.send()
            if settled is not None:
                return settled
            EXTERNAL_TASK_REPORT_RETRIES.labels(delivery.operation, delivery.reason).inc()
            first = REPORT_RACE.first_wait.total_seconds()
            # Without a bound of the exponent, a long silence would end in a number that is too large.
            longest = min(REPORT_RACE.longest_wait.total_seconds(), first * 2 ** min(delivery.tries, _DOUBLINGS))
            self._pause(random.uniform(first / 2, longest))  # noqa: S311 - jitter


def _instead(lease: Lease, outcome: Outcome, end: _GivenUpError) -> Failed:
    if isinstance(end, _UnansweredError):
        return unanswered(outcome, lease.task, str(end))
    return refused(outcome, lease.task, str(end), lease.topic.retries)


def _log_given_up(outcome: Outcome, end: _GivenUpError) -> None:
    # What is reported instead has another text, so this line alone has the first one.
    message = {"message": outcome.message} if isinstance(outcome, Failed) else {}
    _log.warning("task_report_given_up", reason=str(end), operation=_OPERATIONS[type(outcome)], **message)


class _Delivery:
    """The tries of one report, and what they have shown. `unanswered_since`: since when reports of this task have no usable reply."""

    def __init__(self, engine: Engine, lease: Lease, outcome: Outcome, clock: Clock, unanswered_since: float | None = None) -> None:
        self._engine = engine
        self._lease = lease
        self._outcome = outcome
        self._clock = clock
        self._may_have_arrived = False
        self._is_locked = True
        self.unanswered_since = unanswered_since
        self.tries = 0
        self.reason = ""
        self.operation = _OPERATIONS[type(outcome)]

    def send(self) -> Settled | None:
        """Try once; None means try again. Raises _GivenUpError."""
        self.tries += 1
        try:
            with self._lease.calls:
                return self._try()
        except EngineRefusedError as refusal:
            return self._refused(refusal)
        except EngineError as error:
            return self._silent(error)

    def _try(self) -> Settled | None:
        lease = self._lease
        # The heartbeat extends the lock only a few times; in between it may expire, and another worker may lock the task.
        lease.check_clock()
        if lease.lock_state is LockState.EXPIRED:
            self._is_locked = False
            regain(self._engine, lease, self._clock)
        if lease.is_over:
            return self._over()
        self._is_locked = True
        self._call()
        return _settled(self._outcome)

    def _call(self) -> None:
        task_id = self._lease.task.id
        match self._outcome:
            case Completed(variables=variables):
                self._engine.complete(task_id, variables)
            case Raised(code=code, message=message, variables=variables):
                self._engine.bpmn_error(task_id, code=code, message=message, variables=variables)
            case Failed(message=message, details=details, retries=retries, retry_after=wait):
                self._engine.failure(task_id, message=message, details=details, retries=retries, retry_after=wait)

    def _refused(self, refusal: EngineRefusedError) -> Settled | None:
        if refusal.status == HTTPStatus.FORBIDDEN:
            self._count("access", REPORT_FAULT, refusal)
            return None
        current = None
        if not refusal.is_not_found:
            try:
                current = examine(self._engine, self._lease)
            except EngineError as error:
                return self._silent(error)
        else:
            self._lease.end(LockState.GONE)
        if self._lease.is_over:
            return self._over()
        if current is not None and current.suspended:
            return self._again("suspended", REPORT_SILENCE.attempts, refusal)
        if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _RefusedForGoodError(str(refusal))
        if refusal.is_concurrency:
            self._count("concurrency", REPORT_RACE, refusal)
        else:
            self._count("fault", REPORT_FAULT, refusal)
        return None

    def _count(self, reason: str, rule: RetryRule, refusal: EngineRefusedError) -> None:
        """Raises _RefusedForGoodError when the engine has refused this so often as the rule says."""
        if self.tries >= rule.attempts:
            raise _RefusedForGoodError(str(refusal))
        self.reason = reason

    def _silent(self, error: EngineError) -> Settled | None:
        if isinstance(error, EngineOutcomeUnknownError):
            self._may_have_arrived = True
            if self._lasts_too_long() and self._engine_answers():
                if self._lease.is_over:
                    return self._over()
                raise _UnansweredError(str(error))
        # While the task is locked for us no other worker can take it, so further tries cost nothing. No pod can while their user is
        # locked out.
        keeps = self._is_locked or isinstance(error, EngineLockedOutError)
        return self._again("silence", None if keeps else REPORT_SILENCE.attempts, error)

    def _lasts_too_long(self) -> bool:
        """Whether the time is over; what is reported instead then still has some tries."""
        now = self._clock()
        if self.unanswered_since is None:
            self.unanswered_since = now
        is_over = now - self.unanswered_since >= REPORT_UNANSWERED.time.total_seconds()
        return is_over and self.tries >= REPORT_SILENCE.attempts

    def _engine_answers(self) -> bool:
        """Whether the engine answers another question about the task, so that only the report has no usable reply."""
        try:
            examine(self._engine, self._lease)
        except EngineRefusedError:
            return True
        except EngineError:
            return False
        return True

    def _again(self, reason: str, limit: int | None, error: EngineError) -> Settled | None:
        if limit is not None and self.tries >= limit:
            _log.error("task_unreported", reason=str(error), operation=self.operation)
            return Settled.UNREPORTED
        self.reason = reason
        return None

    def _over(self) -> Settled:
        if self._lease.lock_state is LockState.LOST:
            return Settled.LOCK_LOST
        # The likeliest reason for a missing task is our own report, whose response was lost.
        return _settled(self._outcome) if self._may_have_arrived else Settled.GONE


def _settled(outcome: Outcome) -> Settled:
    match outcome:
        case Completed():
            return Settled.COMPLETED
        case Raised():
            return Settled.BPMN_ERROR
        case Failed(postponed=True):
            return Settled.POSTPONED
        case Failed(retries=0):
            return Settled.INCIDENT
        case Failed():
            return Settled.FAILED


_OPERATIONS = {Completed: "complete", Raised: "bpmn_error", Failed: "failure"}
