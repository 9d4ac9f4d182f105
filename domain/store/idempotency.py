"""The idempotency claim: insert first, in the transaction of the command (docs/domain.md#idempotency).

The owner of a key runs the command; a repeat gets the stored answer; another request under the same key is refused. The claim is made in
the transaction of the change, so a crash leaves neither.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, bindparam, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import IdempotencyKeyReused, IdempotentRequestInProgress
from domain.store.base import Base, as_json, table_of
from domain.store.declared import run
from domain.store.sending import named
from domain.store.summary import Outcome
from domain.store.unit_of_work import UnitOfWork

LOCK_NOT_AVAILABLE = "55P03"


class IdempotencyRecord(Base):
    """One row for each tenant, command and key. A committed row is always COMPLETED."""

    __tablename__ = "idempotency_record"
    __table_args__ = (
        CheckConstraint("status IN ('IN_PROGRESS', 'COMPLETED')", name="status"),
        Index("ix_idempotency_record_old", "expires_at"),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    command_name: Mapped[str] = mapped_column(primary_key=True)
    idempotency_key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[str]
    status: Mapped[str]
    actor: Mapped[str]
    response_status: Mapped[int | None]
    response_body: Mapped[dict[str, Any] | None]
    response_version: Mapped[int | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    # A client that was silent for three days (a weekend) does not repeat its request; then its key may be forgotten.
    expires_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp() + interval '72 hours'"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the client gets: a status, a body, the aggregate's version (for the ETag)."""

    status: int
    body: dict[str, Any]
    version: int | None = None
    replayed: bool = False


RECORD = table_of(IdempotencyRecord)
CLAIM = insert(RECORD).on_conflict_do_nothing().returning(RECORD.c.idempotency_key)
IDENTITY = ("tenant_id", "command_name", "idempotency_key")
ANSWERED = ("response_status", "response_body", "response_version")
REMEMBER = (
    update(RECORD)
    .where(*(RECORD.c[name] == bindparam(named(RECORD, name)) for name in IDENTITY))
    .values(
        status="COMPLETED",
        updated_at=func.clock_timestamp(),
        **{name: bindparam(named(RECORD, name), type_=RECORD.c[name].type) for name in ANSWERED},
    )
)


def request_hash(request: Any) -> str:
    """Fingerprint of a request: equal for equal content, whatever the order of its keys."""
    return "sha256:" + hashlib.sha256(json.dumps(as_json(request), sort_keys=True, default=str).encode()).hexdigest()


def once(uow: UnitOfWork, key: str, request: Any) -> Answer | None:
    """Claim `key` for this command. None: the key is yours, run the command and then `remember`. Otherwise returns the stored answer.

    A second caller waits for the first one's transaction. Then it gets the answer, or owns the key because the first one left nothing.
    Raises IdempotencyKeyReused, IdempotentRequestInProgress (the first took longer than the lock time-out).
    """
    identity = {"tenant_id": uow.tenant_id, "command_name": uow.cause.command, "idempotency_key": key}
    digest = request_hash(request)
    try:
        claimed = run(
            uow.connection, CLAIM, {**identity, "request_hash": digest, "status": "IN_PROGRESS", "actor": uow.cause.actor}
        ).one_or_none()
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise IdempotentRequestInProgress from error
        raise
    if claimed is not None:
        return None
    stored = uow.connection.execute(select(*RECORD.c).filter_by(**identity)).one()
    if stored.request_hash != digest:
        raise IdempotencyKeyReused
    uow.summary.note(Outcome.REPLAYED)
    return Answer(status=stored.response_status, body=stored.response_body, version=stored.response_version, replayed=True)


def remember(uow: UnitOfWork, key: str, answer: Answer) -> None:
    """Store the answer under the claimed key, in the same transaction as the change."""
    uow.write(
        REMEMBER,
        command_name=uow.cause.command,
        idempotency_key=key,
        response_status=answer.status,
        response_body=answer.body,
        response_version=answer.version,
    )
