"""Workflow commands for the dispatcher: it claims them under a lease, and then finishes, gives back, expires or gives up each one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from domain.store import Move, UnitOfWork, is_one_of, param, table_of
from domain.store.claims import NOW, Groups, fairly, one_more, since
from domain.store.facts import (
    WORKFLOW_COMMAND_MATRIX,
    WorkflowCommand,
    WorkflowCommandEvent,
    WorkflowCommandKind,
    WorkflowCommandStatus,
)

COMMAND = table_of(WorkflowCommand)
OF_TENANTS = Groups(by=(COMMAND.c.tenant_id,), among="status = 'PENDING'")
REFUSED = {
    "refusals": one_more(COMMAND.c.refusals),
    "refused_since": func.coalesce(COMMAND.c.refused_since, func.clock_timestamp()),
}
# By the database's clock alone: how long it is refused.
_AGES = (since(func.coalesce(COMMAND.c.refused_since, func.clock_timestamp())).label("refused_for"),)

FINISH = Move(
    WorkflowCommand, WORKFLOW_COMMAND_MATRIX, WorkflowCommandEvent.FINISH, sets={WorkflowCommand.outcome: param("outcome")}
)
EXPIRE = Move(
    WorkflowCommand, WORKFLOW_COMMAND_MATRIX, WorkflowCommandEvent.EXPIRE, sets={WorkflowCommand.outcome: param("outcome")}
)
GIVE_UP = Move(
    WorkflowCommand,
    WORKFLOW_COMMAND_MATRIX,
    WorkflowCommandEvent.GIVE_UP,
    sets={WorkflowCommand.last_reason: param("reason"), WorkflowCommand.refusals: one_more(WorkflowCommand.refusals)},
)
ASK_AGAIN = Move(
    WorkflowCommand,
    WORKFLOW_COMMAND_MATRIX,
    WorkflowCommandEvent.ASK_AGAIN,
    sets={
        WorkflowCommand.refusals: 0,
        WorkflowCommand.refused_since: None,
        WorkflowCommand.attempts: 0,
        WorkflowCommand.due_at: func.clock_timestamp(),
    },
)


def claim(connection: Connection, limit: int, lease: timedelta) -> list[Row[Any]]:
    """Lease due commands, in turns between tenants. Commands for one business key wait until its start is settled."""
    return sorted(connection.execute(_claiming(limit, lease)), key=lambda row: (row.turn, row.position))


@cache
def _claiming(limit: int, lease: timedelta) -> ReturningUpdate[Any]:
    # Built once: an idle dispatcher sends it twenty times a second, and building it takes longer than executing it.
    earlier = COMMAND.alias("earlier")
    blocked = select(earlier.c.id).where(
        earlier.c.tenant_id == COMMAND.c.tenant_id,
        earlier.c.business_key == COMMAND.c.business_key,
        is_one_of(earlier.c.kind, WorkflowCommandKind.START),
        is_one_of(earlier.c.status, WorkflowCommandStatus.PENDING),
        earlier.c.position < COMMAND.c.position,
    )
    waiting = select(COMMAND.c.tenant_id, COMMAND.c.id, COMMAND.c.due_at).where(COMMAND.c.due_at <= NOW, ~blocked.exists())
    due = select(fairly(waiting, OF_TENANTS, COMMAND.c.due_at, limit, lock=COMMAND)).cte("taken")
    return (
        update(COMMAND)
        .where(COMMAND.c.tenant_id == due.c.tenant_id, COMMAND.c.id == due.c.id)
        .values(due_at=func.clock_timestamp() + lease, attempts=one_more(COMMAND.c.attempts))
        .returning(*COMMAND.c, *_AGES, (COMMAND.c.expires_at < func.clock_timestamp()).label("expired"), due.c.turn)
    )


def give_back(connection: Connection, row: Row[Any], delay: timedelta, *, was_sent: bool, reason: str | None = None) -> None:
    """Put a claimed command back for later. `was_sent` False: it certainly never left, so the try does not count.

    `reason`: why the engine did not carry it out; None when it was not asked.
    """
    attempts = COMMAND.c.attempts if was_sent else COMMAND.c.attempts - 1
    refused = {} if reason is None else {**REFUSED, "last_reason": reason}
    connection.execute(
        update(COMMAND)
        .where(COMMAND.c.tenant_id == row.tenant_id, COMMAND.c.id == row.id, COMMAND.c.attempts == row.attempts)
        .values(due_at=func.clock_timestamp() + delay, attempts=attempts, **refused)
    )


def finish(uow: UnitOfWork, command_id: UUID, outcome: str) -> None:
    """Record that the engine has carried out a command, or will never need it."""
    uow.apply(FINISH, workflow_command_id=command_id, outcome=outcome)


def expire(uow: UnitOfWork, command_id: UUID, outcome: str) -> None:
    """Record that a command no longer matters: the process that waited for it has asked the domain meanwhile."""
    uow.apply(EXPIRE, workflow_command_id=command_id, outcome=outcome)


def give_up(uow: UnitOfWork, command_id: UUID, reason: str) -> Row[Any]:
    """Leave a command to a person, because the engine has not carried it out for too long; returns it as it was left."""
    return uow.apply(GIVE_UP, workflow_command_id=command_id, reason=reason)


def ask_again(uow: UnitOfWork, business_key: str) -> int:
    """Ask again for what was given up for the process of a business key; returns how many commands."""
    given_up = _of_status(uow, WorkflowCommandStatus.GIVEN_UP, business_key=business_key)
    for command_id in given_up:
        uow.apply(ASK_AGAIN, workflow_command_id=command_id)
    return len(given_up)


def expire_messages(uow: UnitOfWork, business_key: str) -> None:
    """Expire the pending messages to a process, including those that are being sent, because it is reading what they tell."""
    _expire_pending(uow, "READ", business_key=business_key, kind=WorkflowCommandKind.CORRELATE)


def expire_assignments(uow: UnitOfWork, business_key: str, outcome: str) -> None:
    """Expire the pending assignments of the user task of a process, which nobody has to do any more."""
    _expire_pending(uow, outcome, business_key=business_key, kind=WorkflowCommandKind.ASSIGN_TASK)


def expire_all(uow: UnitOfWork, business_key: str, outcome: str) -> None:
    """Expire every open command for the process of a business key: pending ones, those that are being sent, and those that were given up."""
    _expire_pending(uow, outcome, business_key=business_key)
    for command_id in _of_status(uow, WorkflowCommandStatus.GIVEN_UP, business_key=business_key):
        expire(uow, command_id, outcome)


def _expire_pending(uow: UnitOfWork, outcome: str, **named: str) -> None:
    for command_id in _of_status(uow, WorkflowCommandStatus.PENDING, **named):
        expire(uow, command_id, outcome)


def _of_status(uow: UnitOfWork, status: WorkflowCommandStatus, **named: str) -> Sequence[UUID]:
    found = select(COMMAND.c.id).filter_by(tenant_id=uow.tenant_id, **named).where(is_one_of(COMMAND.c.status, status))
    return uow.connection.scalars(found.order_by(COMMAND.c.position).with_for_update()).all()
