"""Provider requests without an outcome: queries across tenants for reconciliation, which asks the provider about them by key.

They only read, and lock nothing. `question_id` names the attempt or the contradiction that a row is about, `idempotency_key` the provider
request. `is_past_safe_interval`: the request was sent so long ago that "never seen" proves its absence. `is_to_be_given_up`: the provider
has told nothing for so long that a person must find out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, func, or_, select, text

from domain.delivery.attempts import ATTEMPT, LIVE, AttemptCommand, AttemptStatus
from domain.delivery.contradictions import CONTRADICTION
from domain.delivery.steps import STEP, UNDER_WAY, StepStatus
from domain.store import is_one_of

NOW = func.clock_timestamp()


def silent_steps(connection: Connection, limit: int, attempt_stale_after: timedelta) -> list[Row[Any]]:
    """Steps whose request may have left, and whose worker has given no sign of life for `attempt_stale_after`."""
    query = _with_live_attempt(ATTEMPT.c.command == AttemptCommand.EXECUTE).where(
        STEP.c.status == StepStatus.IN_PROGRESS,
        ATTEMPT.c.status == AttemptStatus.SENT,
        ATTEMPT.c.heartbeat_at < NOW - attempt_stale_after,
    )
    return list(connection.execute(_under_way(query).limit(limit)))


def unanswered_steps(
    connection: Connection, limit: int, attempt_stale_after: timedelta, request_safe_interval: timedelta, give_up_after: timedelta
) -> list[Row[Any]]:
    """Steps to ask the provider about: UNKNOWN, and accepted ones whose callback is overdue."""
    is_overdue = and_(
        STEP.c.status == StepStatus.IN_PROGRESS,
        ATTEMPT.c.status == AttemptStatus.ACKNOWLEDGED,
        STEP.c.updated_at < NOW - attempt_stale_after,
        ATTEMPT.c.heartbeat_at < NOW - attempt_stale_after,
    )
    query = _with_live_attempt(
        ATTEMPT.c.command == AttemptCommand.EXECUTE, *_ages(ATTEMPT.c.sent_at, request_safe_interval, give_up_after)
    )
    return list(connection.execute(_under_way(query).where(or_(STEP.c.status == StepStatus.UNKNOWN, is_overdue)).limit(limit)))


def unanswered_cancellations(
    connection: Connection, limit: int, attempt_stale_after: timedelta, request_safe_interval: timedelta, give_up_after: timedelta
) -> list[Row[Any]]:
    """Requests to cancel a step, and requests that are to be cancelled, without a reply for `attempt_stale_after`. `command` tells which.

    A request to cancel is among them whatever became of its step.
    """
    is_about_cancelling = or_(ATTEMPT.c.command == AttemptCommand.CANCEL, STEP.c.status == StepStatus.CANCEL_REQUESTED)
    query = _with_live_attempt(is_about_cancelling, *_ages(ATTEMPT.c.sent_at, request_safe_interval, give_up_after))
    overdue = query.where(ATTEMPT.c.heartbeat_at < NOW - attempt_stale_after).order_by(ATTEMPT.c.sent_at)
    return list(connection.execute(overdue.limit(limit)))


def unsettled_contradictions(
    connection: Connection, limit: int, request_safe_interval: timedelta, give_up_after: timedelta
) -> list[Row[Any]]:
    """Contradictions that the provider's ledger must settle, oldest first; `request_no` numbers the provider request of each."""
    query = (
        select(CONTRADICTION, CONTRADICTION.c.id.label("question_id"), STEP.c.status.label("step_status"))
        .add_columns(*(STEP.c[name] for name in ("order_id", "provider_name", "has_lookup", "request_no")))
        .add_columns(*_ages(CONTRADICTION.c.created_at, request_safe_interval, give_up_after))
        .join(STEP, and_(STEP.c.tenant_id == CONTRADICTION.c.tenant_id, STEP.c.id == CONTRADICTION.c.step_id))
        .where(CONTRADICTION.c.answer.is_(None))
        .order_by(CONTRADICTION.c.created_at)
    )
    return list(connection.execute(query.limit(limit)))


def _ages(since: ColumnElement[Any], request_safe_interval: timedelta, give_up_after: timedelta) -> tuple[ColumnElement[Any], ...]:
    return (since < NOW - request_safe_interval).label("is_past_safe_interval"), (since < NOW - give_up_after).label(
        "is_to_be_given_up"
    )


def _with_live_attempt(condition: ColumnElement[bool], *columns: ColumnElement[Any]) -> Select[Any]:
    same = and_(ATTEMPT.c.tenant_id == STEP.c.tenant_id, ATTEMPT.c.step_id == STEP.c.id)
    details = [ATTEMPT.c[name] for name in ("command", "idempotency_key", "worker_id", "sent_at", "heartbeat_at")]
    return (
        select(*STEP.c, ATTEMPT.c.id.label("question_id"), ATTEMPT.c.status.label("attempt_status"), *details, *columns)
        .join(ATTEMPT, same)
        .where(text(f"provider_attempt.{LIVE}"), condition)
    )


def _under_way(query: Select[Any]) -> Select[Any]:
    # As the partial index over steps under way has it, so that the planner can use it.
    return query.where(is_one_of(STEP.c.status, *UNDER_WAY)).order_by(STEP.c.updated_at)
