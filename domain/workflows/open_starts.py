"""Process starts that reconciliation looks at: those whose outcome is not known, and those of fallout cases that have failed."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Any

from sqlalchemy import Connection, Row, exists, func, or_, select

from domain.retry_rules import CASE_PROCESS, START_UNKNOWN
from domain.store import is_one_of
from domain.store.claims import Claiming, Groups, claim, claiming, since
from domain.store.facts import WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows.requests import COMMAND
from domain.workflows.starts import CORRELATION, FAILED, NOW, UNRESOLVED, UNSETTLED, CorrelationStatus

START_IS_QUEUED = exists(
    select(COMMAND.c.id).where(
        COMMAND.c.tenant_id == CORRELATION.c.tenant_id,
        COMMAND.c.business_key == CORRELATION.c.business_key,
        COMMAND.c.kind == WorkflowCommandKind.START,
        COMMAND.c.status == WorkflowCommandStatus.PENDING,
    )
)


def unresolved_starts(
    connection: Connection, limit: int, lease: timedelta | None, start_safe_interval: timedelta
) -> list[Row[Any]]:
    """Claim starts to check now, in turns between tenants: START_UNKNOWN when due, and REQUESTED for longer than `start_safe_interval`.

    `age` is the time in that state (for START_UNKNOWN: since the dispatcher gave up waiting), `is_past_safe_interval` whether it exceeds
    `start_safe_interval`, `start_is_queued` whether the dispatcher still has the command, `is_unknown_for_too_long` whether a person must act.
    """
    return claim(connection, _unresolved_starts(limit, lease, start_safe_interval))


@cache
def _unresolved_starts(limit: int, lease: timedelta | None, start_safe_interval: timedelta) -> Claiming:
    c = CORRELATION.c
    query = (
        select(*(column for column in c if column.name != "next_check_at"), since(c.updated_at).label("age"))
        .add_columns((c.updated_at < NOW - start_safe_interval).label("is_past_safe_interval"))
        .add_columns(START_IS_QUEUED.label("start_is_queued"))
        .add_columns((c.requested_at < NOW - START_UNKNOWN.time).label("is_unknown_for_too_long"))
        .where(or_(c.status == CorrelationStatus.START_UNKNOWN, c.updated_at < NOW - start_safe_interval))
    )
    return claiming(query, CORRELATION, Groups(by=(c.tenant_id,), among=UNRESOLVED), limit=limit, lease=lease)


def unknown_starts(connection: Connection) -> int:
    """How many starts are START_UNKNOWN."""
    c = CORRELATION.c
    unresolved = is_one_of(c.status, *UNSETTLED)
    query = select(func.count()).select_from(CORRELATION).where(unresolved, c.status == CorrelationStatus.START_UNKNOWN)
    return int(connection.execute(query).scalar_one())


def failed_case_starts(connection: Connection, limit: int, lease: timedelta | None) -> list[Row[Any]]:
    """Claim processes of fallout cases whose start has failed, to be started again now: those that have not failed for too long.

    `age` is the time since the start failed. Nobody is asked about them, because a case about a case would need the same process.
    """
    return claim(connection, _failed_case_starts(limit, lease))


@cache
def _failed_case_starts(limit: int, lease: timedelta | None) -> Claiming:
    c = CORRELATION.c
    # A start that had failed before schema 0015 has no time of its first failure.
    failed_since = func.coalesce(c.failed_since, c.updated_at)
    query = (
        select(*(column for column in c if column.name != "next_check_at"), since(failed_since).label("age"))
        .where(c.aggregate_type == "fallout_case")
        .where(failed_since > NOW - CASE_PROCESS.time, c.updated_at < NOW - CASE_PROCESS.first_wait)
    )
    return claiming(query, CORRELATION, Groups(by=(c.tenant_id,), among=FAILED), limit=limit, lease=lease)
