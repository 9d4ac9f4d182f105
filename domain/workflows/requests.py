"""Workflow commands for the dispatcher: it claims them under a lease, and then finishes, gives back, expires or gives up each one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Connection, Integer, Row, Text, all_, bindparam, cast, extract, func, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from domain.retry_row import MILLISECOND
from domain.retry_rules import START_REFUSED, START_ROLLED_BACK, WORKFLOW_COMMAND, WORKFLOW_COMMAND_UNKNOWN, RetryRule
from domain.store import Move, UnitOfWork, is_one_of, param, table_of
from domain.store.claims import HIGHEST, NOW, Groups, fairly, one_more, since
from domain.store.facts import (
    WORKFLOW_COMMAND_MATRIX,
    WorkflowCommand,
    WorkflowCommandEvent,
    WorkflowCommandKind,
    WorkflowCommandStatus,
)

COMMAND = table_of(WorkflowCommand)
OF_TENANTS = Groups(by=(COMMAND.c.tenant_id,), among="status = 'PENDING'")
# Each class of failure has its own time. One time for all would give a command up at its first refusal after hours of another failure,
# and a time that begins anew with each change would never end when two classes take turns.
_TIMES = {
    START_REFUSED: COMMAND.c.refused_ms,
    START_ROLLED_BACK: COMMAND.c.failed_ms,
    WORKFLOW_COMMAND: COMMAND.c.refused_ms,
    WORKFLOW_COMMAND_UNKNOWN: COMMAND.c.failed_ms,
}
# Two tries are at most the longest wait and one call apart. What is longer was an outage, or a backlog, and counts no more than this.
LONGEST_GAP = max(rule.longest_wait + rule.call for rule in _TIMES)
# By the database's clock alone: how long ago the engine did not carry it out.
_GAP = func.least(since(func.coalesce(COMMAND.c.refused_at, func.clock_timestamp())), LONGEST_GAP)
_GAP_MS = cast(extract("epoch", _GAP) * 1000, Integer)

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
        WorkflowCommand.refused_at: None,
        WorkflowCommand.refused_ms: 0,
        WorkflowCommand.failed_ms: 0,
        WorkflowCommand.attempts: 0,
        WorkflowCommand.due_at: func.clock_timestamp(),
    },
)


def claim(connection: Connection, limit: int, lease: timedelta, *, skip: Collection[str] = ()) -> list[Row[Any]]:
    """Lease due commands, in turns between tenants, without those for the business keys in `skip`.

    Commands for one business key wait until its start is settled. Beyond that a command may overtake an earlier one for its key: one that
    waits for its next try, or that another dispatcher has.
    """
    claimed = connection.execute(_claiming(limit, lease), {"skip": list(skip)})
    return sorted(claimed, key=lambda row: (row.turn, row.place))


@cache
def _claiming(limit: int, lease: timedelta) -> ReturningUpdate[Any]:
    # Built once for each limit: an idle dispatcher sends it twenty times a second, and building it takes longer than executing it.
    earlier = COMMAND.alias("earlier")
    blocked = select(earlier.c.id).where(
        earlier.c.tenant_id == COMMAND.c.tenant_id,
        earlier.c.business_key == COMMAND.c.business_key,
        is_one_of(earlier.c.kind, WorkflowCommandKind.START),
        is_one_of(earlier.c.status, WorkflowCommandStatus.PENDING),
        earlier.c.position < COMMAND.c.position,
    )
    is_free = COMMAND.c.business_key != all_(bindparam("skip", type_=ARRAY(Text)))
    waiting = select(COMMAND.c.tenant_id, COMMAND.c.id, COMMAND.c.due_at).where(COMMAND.c.due_at <= NOW, is_free, ~blocked.exists())
    due = select(fairly(waiting, OF_TENANTS, COMMAND.c.due_at, limit, lock=COMMAND)).cte("taken")
    return (
        update(COMMAND)
        .where(COMMAND.c.tenant_id == due.c.tenant_id, COMMAND.c.id == due.c.id)
        .values(due_at=func.clock_timestamp() + lease, attempts=one_more(COMMAND.c.attempts))
        .returning(
            *COMMAND.c,
            _GAP.label("gap"),
            (COMMAND.c.expires_at < func.clock_timestamp()).label("expired"),
            due.c.due_at.label("was_due_at"),
            due.c.turn,
            due.c.place,
        )
    )


def time_of(row: Row[Any], rule: RetryRule) -> timedelta:
    """How long a claimed command has failed in the way of this rule, if it does so again."""
    time: timedelta = row._mapping[_TIMES[rule].name] * MILLISECOND + row.gap
    return time


def put_off(connection: Connection, row: Row[Any], rule: RetryRule, reason: str, *, was_sent: bool, at_once: bool = False) -> None:
    """Count that the engine has not carried out a claimed command, and let it be due after the wait of `rule`, or as before.

    `was_sent` False: it certainly never left, so the try does not count.
    """
    due_at = row.was_due_at if at_once else func.clock_timestamp() + rule.wait_after(time_of(row, rule))
    time = _TIMES[rule]
    counted = {
        "refusals": one_more(COMMAND.c.refusals),
        "refused_since": func.coalesce(COMMAND.c.refused_since, func.clock_timestamp()),
        "refused_at": func.clock_timestamp(),
        time.name: func.least(time, HIGHEST - LONGEST_GAP // MILLISECOND) + _GAP_MS,
        "last_reason": reason,
    }
    attempts = COMMAND.c.attempts if was_sent else COMMAND.c.attempts - 1
    _put_back(connection, row, due_at=due_at, attempts=attempts, **counted)


def give_back(connection: Connection, row: Row[Any]) -> None:
    """Give back a claimed command that certainly never left: it is due as it was before, and the try does not count."""
    _put_back(connection, row, due_at=row.was_due_at, attempts=COMMAND.c.attempts - 1)


def _put_back(connection: Connection, row: Row[Any], **values: Any) -> None:
    # The end of its lease proves whose claim it is.
    is_leased = COMMAND.c.due_at == row.due_at
    connection.execute(
        update(COMMAND).where(COMMAND.c.tenant_id == row.tenant_id, COMMAND.c.id == row.id, is_leased).values(**values)
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
