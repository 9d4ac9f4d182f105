"""Turns what a handler returns or raises into the outcome that the engine gets.

The rule it keeps: every run of a handler has exactly one outcome, whatever it raises. Every failure text says what failed, whether a retry
is safe, and what to do next.
"""

from __future__ import annotations

import random
import traceback
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import TypeAlias

from domain.retry_rules import EXTERNAL_TASK, REPORT_UNANSWERED, TASK_IN_OUTAGE, RetryRule
from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task, Topic
from workers.pod.retry_policy import RetryPolicy
from workers.runtime.engine import ExternalTask
from workers.runtime.outages import is_database_outage, is_outage
from workers.runtime.retries import OutageLog
from workers.runtime.variables import EncodedVariables, VariableError, encode

MAX_MESSAGE = 666  # characters; the engine cuts here, and the advice comes last
_SAFE = "Retrying is safe: the task repeats under the same ids and keys."


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    variables: EncodedVariables


@dataclass(frozen=True, slots=True, kw_only=True)
class Raised:
    """A BPMN error."""

    code: str
    message: str
    variables: EncodedVariables


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A failed attempt; `retries` 0 is an incident. `postponed` marks an attempt that does not count."""

    message: str
    details: str
    retries: int
    retry_after: timedelta
    postponed: bool = False


Outcome: TypeAlias = Completed | Raised | Failed


def run_handler(topic: Topic, task: ExternalTask, cancelled: Event, database_outage: OutageLog) -> Outcome:
    """Run the handler once and name the outcome; never raises. The log gets to know whether the database was there."""
    try:
        variables = topic.handler(Task.of(task, cancelled))
        database_outage.worked()
        return Completed(variables=encode(variables or {}))
    except BaseException as error:  # noqa: BLE001 - a handler that ends in SystemExit must not leave its task locked without a report
        if is_database_outage(error):
            database_outage.failed(error)
        return _outcome_of(error, topic, task, traceback.format_exc())


def _outcome_of(error: BaseException, topic: Topic, task: ExternalTask, details: str) -> Outcome:
    outcome: Outcome
    match error:
        case BpmnError():
            outcome = _raised(topic, error)
        case RetryLater():
            outcome = _postponed(task, error, topic.retries)
        case GiveUp():
            outcome = incident(error.reason)
        case VariableError():
            outcome = incident(f"{task.topic}: {error}", details)
        case _ if is_outage(error):
            later = RetryLater(_wait_for_recovery(), f"{task.topic}: the database or the engine is away: {error}")
            outcome = _postponed(task, later, topic.retries)
        case _:
            outcome = failure(task, f"{task.topic}: {type(error).__name__}: {error}", details, topic.retries)
    return outcome


def failure(task: ExternalTask, what: str, details: str, rule: RetryRule = EXTERNAL_TASK) -> Failed:
    """Count a failed attempt by the activity's retry policy, and by the rule where the activity has none."""
    policy = RetryPolicy.of(task.properties, rule)
    left = policy.left_after_failure(task.retries)
    if left == 0:
        advice = (
            f"No attempt is left of {policy.attempts}. {_SAFE} Next: remove the cause, then press retry on the incident in Cockpit."
        )
        return Failed(message=_message(what, advice), details=details, retries=0, retry_after=timedelta())
    wait = policy.wait_before_next(left)
    advice = f"{left} of {policy.attempts} attempts left, the next one in {wait.total_seconds():g} s. {_SAFE} Next: nothing, unless it keeps failing."
    return Failed(message=_message(what, advice), details=details, retries=left, retry_after=wait)


def incident(reason: str, details: str = "") -> Failed:
    """Stop trying, and leave the task to a person."""
    advice = "Not retried: the result would be the same until the cause is removed. Next: remove it, then press retry on the incident in Cockpit, which is safe."
    return Failed(message=_message(reason, advice), details=details, retries=0, retry_after=timedelta())


def refused(outcome: Outcome, task: ExternalTask, reason: str, rule: RetryRule) -> Failed:
    """Name what is reported instead of an outcome that the engine refuses: an incident stays one, and what was postponed costs no try."""
    what = f"{task.topic}: {_described(outcome)}, but the engine refuses the report: {reason}"
    match outcome:
        case Failed(postponed=True, retry_after=wait):
            return _postponed(task, RetryLater(wait, what), rule)
        case Failed(retries=0):
            return incident(what, reason)
        case _:
            return failure(task, what, reason, rule)


def unanswered(outcome: Outcome, task: ExternalTask, reason: str) -> Failed:
    """Name what is reported instead of an outcome whose report gets no usable reply. Its own texts may be the cause, so none is repeated."""
    minutes = REPORT_UNANSWERED.time.total_seconds() / 60
    without = f"for {minutes:g} min its report got no reply of the engine, only this, as when a gateway refuses a text in it"
    return incident(f"{task.topic}: {_described(outcome)}, but {without}: {reason}", reason)


def _described(outcome: Outcome) -> str:
    match outcome:
        case Completed():
            return "the work is done"
        case Raised(code=code):
            return f"the work ended in BPMN error {code!r}"
        case Failed(postponed=True):
            return "the task came too early"
        case Failed(retries=0):
            return "the task failed for good"
        case Failed():
            return "the task failed"


def _raised(topic: Topic, error: BpmnError) -> Outcome:
    # The engine ends a process silently at a code that no boundary event catches.
    if error.code not in topic.errors:
        declared = ", ".join(topic.errors) or "none"
        return incident(
            f"{topic.name} raised BPMN error {error.code!r} ({error.message}), which it does not declare (declared: {declared})"
        )
    try:
        return Raised(code=error.code, message=error.message, variables=encode(error.variables))
    except VariableError as unsendable:
        return incident(f"{topic.name} raised BPMN error {error.code!r}, but {unsendable}")


def _postponed(task: ExternalTask, later: RetryLater, rule: RetryRule) -> Failed:
    retries = RetryPolicy.of(task.properties, rule).attempts if task.retries is None else task.retries
    advice = f"Waiting, not failed: asked again in {later.delay.total_seconds():g} s, no attempt used. Next: nothing."
    return Failed(message=_message(later.reason, advice), details="", retries=retries, retry_after=later.delay, postponed=True)


def _wait_for_recovery() -> timedelta:
    # Spread, because all tasks of all pods meet the same outage.
    shortest, longest = TASK_IN_OUTAGE.first_wait.total_seconds(), TASK_IN_OUTAGE.longest_wait.total_seconds()
    return timedelta(seconds=random.uniform(shortest, longest))  # noqa: S311 - jitter


def _message(what: str, advice: str) -> str:
    room = MAX_MESSAGE - len(advice) - len(". ")
    sentence = what.rstrip(". \n")
    return f"{sentence if len(sentence) <= room else sentence[: room - 1] + '…'}. {advice}"
