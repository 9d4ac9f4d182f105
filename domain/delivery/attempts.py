"""Attempts: every sending of a provider request, written down before the request can leave.

A worker may die between sending and hearing the reply. The row that it left says that the request may have had its effect, so that
silence is never taken for "not sent" (docs/domain.md#steps-attempts-and-retries).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Row, func, select, text, update
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Base, Owned, UnitOfWork, check_in, ref, sql_list, table_of
from domain.store.claims import Checked, Groups


class AttemptStatus(StrEnum):
    """REPEATED: nobody knows what became of it, and a person lets its request be sent again."""

    SENT = "SENT"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABSENT = "ABSENT"
    REPEATED = "REPEATED"


class AttemptCommand(StrEnum):
    """What a provider request wants: that a step is carried out, or that the request to do so is cancelled."""

    EXECUTE = "EXECUTE"
    CANCEL = "CANCEL"


LIVE_STATUSES = (AttemptStatus.SENT, AttemptStatus.ACKNOWLEDGED, AttemptStatus.UNKNOWN)
LIVE = f"status IN {sql_list(LIVE_STATUSES)}"
UNCERTAIN = f"status IN {sql_list((*LIVE_STATUSES, AttemptStatus.REPEATED))}"
"""Its request may still have its effect, or has had it without our knowing."""


class ProviderAttempt(Owned, Checked, Base):
    """One sending of a provider request. Written as SENT in the transaction that starts the step: from its commit on it may have left.

    At most one is live per step and command; a retry is a new attempt with the same idempotency key. `provider_name` is that of its step.
    """

    __tablename__ = "provider_attempt"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        check_in("status", AttemptStatus),
        check_in("command", AttemptCommand),
        Index("ix_provider_attempt_step", "tenant_id", "step_id"),
        Index("uq_provider_attempt_live", "tenant_id", "step_id", "command", unique=True, postgresql_where=text(LIVE)),
        Index("ix_provider_attempt_check", "provider_name", "tenant_id", "next_check_at", postgresql_where=text(LIVE)),
    )
    step_id: Mapped[UUID]
    # The default is for pods of the release before, which do not know this column.
    provider_name: Mapped[str] = mapped_column(server_default="")
    command: Mapped[str]
    attempt_no: Mapped[int]
    idempotency_key: Mapped[str]
    request_hash: Mapped[str]
    status: Mapped[str]
    worker_id: Mapped[str]
    external_task_id: Mapped[str | None]
    sent_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    external_request_id: Mapped[str | None]
    outcome_source: Mapped[str | None]
    reason: Mapped[str | None]
    settled_at: Mapped[datetime | None]


ATTEMPT = table_of(ProviderAttempt)
OF_PROVIDERS = Groups(by=(ATTEMPT.c.provider_name, ATTEMPT.c.tenant_id), among=LIVE)

_OF_LATER_REQUEST = re.compile(r"fulfillment:[^:]+:[A-Z]+:([0-9]{1,9})")
DUE_AT_ONCE = {"next_check_at": func.clock_timestamp(), "checks": 0}
"""What an attempt in another state has: whatever was known of it is news, and earlier waits do not count."""


def idempotency_key(step_id: UUID, command: AttemptCommand = AttemptCommand.EXECUTE, request_no: int = 1) -> str:
    """The key by which the provider recognises a repeat: the same for every attempt at one provider request.

    A repaired request has a key of its own: the provider has rejected the old one, and would reject it again (decision 0019).
    """
    return f"fulfillment:{step_id}:{command}" + (f":{request_no}" if request_no > 1 else "")


def request_no_of(key: str) -> int:
    """Which provider request of its step an idempotency key is of."""
    later = _OF_LATER_REQUEST.fullmatch(key)
    return int(later[1]) if later else 1


def request_named(uow: UnitOfWork, step: Row[Any], external_request_id: str | None) -> int | None:
    """Which provider request of a step the provider calls by this id; None: it may be any of them.

    An id that we have never seen is that of the request that counts now, if we know the ids of all earlier ones: its reply was lost.
    """
    query = select(ATTEMPT.c.idempotency_key, ATTEMPT.c.external_request_id).filter_by(tenant_id=uow.tenant_id, step_id=step.id)
    known: dict[int, set[str | None]] = {number: set() for number in range(1, step.request_no + 1)}
    for key, request_id in uow.connection.execute(query.where(ATTEMPT.c.command == AttemptCommand.EXECUTE)):
        known[request_no_of(key)].add(request_id)
    named = [number for number, ids in known.items() if external_request_id is not None and external_request_id in ids]
    are_earlier_known = all(ids - {None} for number, ids in known.items() if number < step.request_no)
    return named[0] if named else step.request_no if are_earlier_known else None


def is_live(uow: UnitOfWork, attempt_id: UUID) -> bool:
    """Whether nothing final is known of an attempt."""
    return uow.read(ProviderAttempt, attempt_id).status in LIVE_STATUSES


def settle(uow: UnitOfWork, which: Mapping[str, Any], status: AttemptStatus, **known: Any) -> bool:
    """Record the outcome of live attempts; returns whether there were any.

    `which` names them by their columns, `known` sets further columns. The step's row must be locked: guards on steps rely on it.
    """
    live = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, **which).where(text(LIVE))
    settled_at = None if status in LIVE_STATUSES else func.clock_timestamp()
    settled = live.values(status=status, settled_at=settled_at, **DUE_AT_ONCE, **known).returning(ATTEMPT.c.id)
    return uow.connection.execute(settled).first() is not None


def settle_repeated(uow: UnitOfWork, step_id: UUID, status: AttemptStatus, **known: Any) -> None:
    """Record the outcome of the attempts at a step that were repeated: what became of their request is known. `known` sets further columns."""
    repeated = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step_id, status=AttemptStatus.REPEATED)
    uow.connection.execute(repeated.values(status=status, settled_at=func.clock_timestamp(), **known))


def has_repeated(uow: UnitOfWork, step_id: UUID) -> bool:
    """Whether a step has an attempt that was released to be sent again although its outcome is unknown."""
    repeated = select(ATTEMPT.c.id).filter_by(tenant_id=uow.tenant_id, step_id=step_id, status=AttemptStatus.REPEATED)
    return uow.connection.execute(repeated).first() is not None


def reopen_repeated(uow: UnitOfWork, step_id: UUID) -> None:
    """Make the last repeated attempt live again, if none is, so that the provider is asked about it: the request is not to be sent again."""
    if has_live(uow, step_id):
        return
    repeated = select(ATTEMPT.c.id).filter_by(tenant_id=uow.tenant_id, step_id=step_id, status=AttemptStatus.REPEATED)
    last = repeated.order_by(ATTEMPT.c.attempt_no.desc()).limit(1).scalar_subquery()
    again = update(ATTEMPT).where(ATTEMPT.c.tenant_id == uow.tenant_id, ATTEMPT.c.id == last)
    uow.connection.execute(again.values(status=AttemptStatus.UNKNOWN, settled_at=None, **DUE_AT_ONCE))


def has_live(uow: UnitOfWork, step_id: UUID) -> bool:
    """Whether an attempt at this step is live."""
    live = select(ATTEMPT.c.id).filter_by(tenant_id=uow.tenant_id, step_id=step_id, command=AttemptCommand.EXECUTE)
    return uow.connection.execute(live.where(ATTEMPT.c.status.in_(LIVE_STATUSES))).first() is not None
