"""What providers told us: one record per event, written before any effect (the lesson, section 13)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import Conflict, SafeAction
from domain.store import Base, Owned, append_only


class ProviderConflict(Conflict):
    """This event id was delivered before with another content."""

    safe_action = SafeAction.NOTHING_TO_DO


class ProcessedStatus(StrEnum):
    """What a callback did: changed the step, nothing, contradicted what is known, or matched no step."""

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    NO_EFFECT = "NO_EFFECT"
    CONTRADICTION = "CONTRADICTION"
    UNMATCHED = "UNMATCHED"


class ExternalCallbackRecord(Base):
    """The lesson's table: its primary key is the deduplication."""

    __tablename__ = "external_callback_record"
    __table_args__ = (
        CheckConstraint(
            "processed_status IN ('RECEIVED', 'APPLIED', 'NO_EFFECT', 'CONTRADICTION', 'UNMATCHED')", name="processed_status"
        ),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    provider_name: Mapped[str] = mapped_column(primary_key=True)
    external_event_id: Mapped[str] = mapped_column(primary_key=True)
    received_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    payload_hash: Mapped[str]
    processed_status: Mapped[str]
    event_type: Mapped[str]
    external_event_at: Mapped[datetime | None]
    step_id: Mapped[UUID | None]
    payload: Mapped[dict[str, Any]]


class ExternalCallbackConflict(Owned, Base):
    """The same event id with another content: kept, never applied."""

    __tablename__ = "external_callback_conflict"
    provider_name: Mapped[str]
    external_event_id: Mapped[str]
    first_hash: Mapped[str]
    second_hash: Mapped[str]
    payload: Mapped[dict[str, Any]]


append_only(ExternalCallbackConflict)
