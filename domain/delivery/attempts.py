"""Attempts: every request that a worker was about to send to a provider, kept before it could leave (the lesson, section 16)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, ref


class AttemptStatus(StrEnum):
    SENT = "SENT"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNKNOWN = "UNKNOWN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    ABSENT = "ABSENT"


LIVE_STATUSES = (AttemptStatus.SENT, AttemptStatus.ACKNOWLEDGED, AttemptStatus.UNKNOWN)
LIVE = "status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN')"


class ProviderAttempt(Owned, Base):
    """One request to a provider. Written as SENT in the transaction that starts the step: from then on it may have left.

    At most one is live per step and command; a retry is a new attempt with the same idempotency key (the lesson, section 16).
    """

    __tablename__ = "provider_attempt"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        CheckConstraint("status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN', 'SUCCEEDED', 'FAILED', 'ABSENT')", name="status"),
        CheckConstraint("command IN ('EXECUTE', 'CANCEL', 'QUERY')", name="command"),
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
