"""Provider requests without an outcome: claims across tenants for reconciliation, which asks the provider about them by key.

Each takes rows that are due, in turns between providers and tenants, for the time of a lease; without one (a dry run) it only reads.
`question_id` names the attempt or the contradiction that a row is about, `idempotency_key` the provider request. `is_past_safe_interval`:
the request was sent so long ago that "never seen" proves its absence. `is_to_be_given_up`: the provider has told nothing for so long that
a person must find out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select

from domain.delivery import attempts, contradictions
from domain.delivery.attempts import ATTEMPT, AttemptCommand, AttemptStatus
from domain.delivery.contradictions import CONTRADICTION
from domain.delivery.steps import STEP, StepStatus
from domain.store.claims import Claiming, claim, claiming

NOW = func.clock_timestamp()
KEY = "question_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """How long each kind of silence may last; the same for every question.

    `attempt_stale_after`: after this time a silent worker counts as dead, and a callback as overdue.
    `request_safe_interval`: the longest time that a request may be on its way; before it is over, "never seen" proves nothing.
    `give_up_after`: after this time a person must find out.
    """

    attempt_stale_after: timedelta
    request_safe_interval: timedelta
    give_up_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Unasked:
    """Providers that cannot be asked now. A busy provider's rows are left out; a hanging provider's rows are claimed only to be given up."""

    busy: frozenset[str] = frozenset()
    hanging: frozenset[str] = frozenset()


ALL_ARE_ASKED = Unasked()


def silent_steps(connection: Connection, limit: int, lease: timedelta | None, silence: Silence) -> list[Row[Any]]:
    """Claim steps whose request may have left, and whose worker has given no sign of life for `attempt_stale_after`."""
    return claim(connection, _silent_steps(limit, lease, silence))


@cache
def _silent_steps(limit: int, lease: timedelta | None, silence: Silence) -> Claiming:
    query = _with_attempt(ATTEMPT.c.command == AttemptCommand.EXECUTE).where(
        STEP.c.status == StepStatus.IN_PROGRESS,
        ATTEMPT.c.status == AttemptStatus.SENT,
        ATTEMPT.c.heartbeat_at < NOW - silence.attempt_stale_after,
    )
    return claiming(query, ATTEMPT, attempts.OF_PROVIDERS, limit=limit, lease=lease, key=KEY)


def unanswered_steps(
    connection: Connection, limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked = ALL_ARE_ASKED
) -> list[Row[Any]]:
    """Claim steps to ask the provider about: UNKNOWN, and accepted ones whose callback is overdue."""
    return claim(connection, _unanswered_steps(limit, lease, silence, unasked))


@cache
def _unanswered_steps(limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked) -> Claiming:
    is_overdue = and_(
        STEP.c.status == StepStatus.IN_PROGRESS,
        ATTEMPT.c.status == AttemptStatus.ACKNOWLEDGED,
        STEP.c.updated_at < NOW - silence.attempt_stale_after,
        ATTEMPT.c.heartbeat_at < NOW - silence.attempt_stale_after,
    )
    query = _with_attempt(ATTEMPT.c.command == AttemptCommand.EXECUTE, *_ages(ATTEMPT.c.sent_at, silence))
    query = query.where(or_(STEP.c.status == StepStatus.UNKNOWN, is_overdue))
    if unasked.hanging:  # an accepted step goes on waiting for its callback
        is_given_up = and_(STEP.c.status == StepStatus.UNKNOWN, _is_too_old(ATTEMPT.c.sent_at, silence))
        query = query.where(or_(ATTEMPT.c.provider_name.not_in(unasked.hanging), is_given_up))
    return claiming(query, ATTEMPT, attempts.OF_PROVIDERS, limit=limit, lease=lease, key=KEY, skip=unasked.busy)


def unanswered_cancellations(
    connection: Connection, limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked = ALL_ARE_ASKED
) -> list[Row[Any]]:
    """Claim requests to cancel a step, and requests that are to be cancelled, without a reply for `attempt_stale_after`.

    `command` tells which. A request to cancel is among them whatever became of its step.
    """
    return claim(connection, _unanswered_cancellations(limit, lease, silence, unasked))


@cache
def _unanswered_cancellations(limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked) -> Claiming:
    is_about_cancelling = or_(ATTEMPT.c.command == AttemptCommand.CANCEL, STEP.c.status == StepStatus.CANCEL_REQUESTED)
    # The silence about a cancellation begins when it is requested, however old the request is that it is to stop.
    since = func.greatest(ATTEMPT.c.sent_at, STEP.c.cancel_requested_at)
    query = _with_attempt(is_about_cancelling, *_ages(since, silence))
    overdue = query.where(ATTEMPT.c.heartbeat_at < NOW - silence.attempt_stale_after)
    if unasked.hanging:
        overdue = overdue.where(or_(ATTEMPT.c.provider_name.not_in(unasked.hanging), _is_too_old(since, silence)))
    return claiming(overdue, ATTEMPT, attempts.OF_PROVIDERS, limit=limit, lease=lease, key=KEY, skip=unasked.busy)


def unsettled_contradictions(
    connection: Connection, limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked = ALL_ARE_ASKED
) -> list[Row[Any]]:
    """Claim contradictions that the provider's ledger must settle; `request_no` numbers the provider request of each."""
    return claim(connection, _unsettled_contradictions(limit, lease, silence, unasked))


@cache
def _unsettled_contradictions(limit: int, lease: timedelta | None, silence: Silence, unasked: Unasked) -> Claiming:
    query = (
        select(
            *(column for column in CONTRADICTION.c if column.name not in {"provider_name", "next_check_at"}),
            CONTRADICTION.c.id.label(KEY),
            STEP.c.status.label("step_status"),
        )
        .add_columns(*(STEP.c[name] for name in ("order_id", "provider_name", "has_lookup", "request_no")))
        .add_columns(*_ages(CONTRADICTION.c.created_at, silence))
        .select_from(
            CONTRADICTION.join(STEP, and_(STEP.c.tenant_id == CONTRADICTION.c.tenant_id, STEP.c.id == CONTRADICTION.c.step_id))
        )
    )
    if unasked.hanging:
        is_given_up = _is_too_old(CONTRADICTION.c.created_at, silence)
        query = query.where(or_(CONTRADICTION.c.provider_name.not_in(unasked.hanging), is_given_up))
    return claiming(query, CONTRADICTION, contradictions.OF_PROVIDERS, limit=limit, lease=lease, skip=unasked.busy)


def _ages(since: ColumnElement[Any], silence: Silence) -> tuple[ColumnElement[Any], ...]:
    is_past_safe_interval = since < NOW - silence.request_safe_interval
    return is_past_safe_interval.label("is_past_safe_interval"), _is_too_old(since, silence).label("is_to_be_given_up")


def _is_too_old(since: ColumnElement[Any], silence: Silence) -> ColumnElement[bool]:
    return since < NOW - silence.give_up_after


def _with_attempt(condition: ColumnElement[bool], *columns: ColumnElement[Any]) -> Select[Any]:
    same = and_(ATTEMPT.c.tenant_id == STEP.c.tenant_id, ATTEMPT.c.step_id == STEP.c.id)
    details = [ATTEMPT.c[name] for name in ("command", "idempotency_key", "worker_id", "sent_at", "heartbeat_at")]
    return (
        select(*STEP.c, ATTEMPT.c.id.label(KEY), ATTEMPT.c.status.label("attempt_status"), *details, *columns)
        .join(ATTEMPT, same)
        .where(condition)
    )
