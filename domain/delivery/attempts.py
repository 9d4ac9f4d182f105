"""Attempts: every request that a worker was about to send to a provider, kept before it could leave (the lesson, section 16)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, check_in, ref, sql_list, table_of


class AttemptStatus(StrEnum):
    SENT = "SENT"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABSENT = "ABSENT"


class AttemptCommand(StrEnum):
    """What a provider request wants: that the step is carried out, or that the request to do so is cancelled."""

    EXECUTE = "EXECUTE"
    CANCEL = "CANCEL"


LIVE_STATUSES = (AttemptStatus.SENT, AttemptStatus.ACKNOWLEDGED, AttemptStatus.UNKNOWN)
LIVE = f"status IN {sql_list(LIVE_STATUSES)}"


class ProviderAttempt(Owned, Base):
    """One request to a provider. Written as SENT in the transaction that starts the step: from then on it may have left.

    At most one is live per step and command; a retry is a new attempt with the same idempotency key (the lesson, section 16).
    """

    __tablename__ = "provider_attempt"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        check_in("status", AttemptStatus),
        check_in("command", AttemptCommand),
        Index("uq_provider_attempt_live", "tenant_id", "step_id", "command", unique=True, postgresql_where=text(LIVE)),
    )
    step_id: Mapped[UUID]
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


def idempotency_key(step_id: UUID, command: AttemptCommand = AttemptCommand.EXECUTE, request_no: int = 1) -> str:
    """What the provider recognises a repeat by: the same for every attempt at one request (the lesson, section 16).

    A repaired request has a key of its own: to the old one the provider has said no, and would say it again.
    """
    return f"fulfillment:{step_id}:{command}" + (f":{request_no}" if request_no > 1 else "")
