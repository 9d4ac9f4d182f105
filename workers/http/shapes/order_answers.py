"""What clients get of orders in trouble: cancellation requests, the timeline, fallout cases."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from workers.http.shapes.answers import Shown


class ShownCancellation(Shown):
    """A request to cancel an order, and how it ended: DECLINED, DONE, DONE_PARTIAL."""

    cancellation_id: UUID
    order_id: UUID
    version: int
    status: str
    reason_code: str
    requested_by: str
    decided_by: str | None
    decision_reason: str | None
    created_at: datetime
    updated_at: datetime


class CancellationPage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ShownCancellation]
    next: UUID | None


class TimelineEntry(Shown):
    """One fact. Which further members there are depends on its kind: `transitionFrom`, `eventType`, `idempotencyKey`, `said`, …"""

    model_config = ConfigDict(extra="allow", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=True)

    kind: str
    at: datetime = Field(description="By our clock")
    provider_at: datetime | None = Field(None, description="By the provider's clock")
    step_id: UUID | None = None
    step_code: str | None = None
    actor: str | None = None
    status: str | None = None
    reason: str | None = None


class Timeline(Shown):
    """Every transition, attempt, callback, contradiction and case, oldest first."""

    order_id: UUID
    entries: list[TimelineEntry]


class ListedCase(Shown):
    case_id: UUID
    case_number: str
    version: int
    status: str
    type: str
    severity: str
    queue: str
    order_id: UUID | None
    step_id: UUID | None
    detail: str
    evidence: dict[str, Any]
    owner_user_id: str | None
    claim_expires_at: datetime | None
    claim_due_at: datetime
    due_at: datetime
    escalation_level: int
    reopen_count: int
    resolution: str | None
    resolved_by: str | None
    external_ref: str | None
    resolution_evidence: str | None
    created_at: datetime
    updated_at: datetime


class CasePage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ListedCase]
    next: UUID | None


class ShownNote(Shown):
    kind: str
    author: str
    text: str
    external_ref: str | None
    created_at: datetime


class ShownCase(ListedCase):
    """A case with the step as it stands, what was written, and what its reader may decide."""

    step_code: str | None
    step_status: str | None
    step_version: int | None
    notes: list[ShownNote]
    resolutions: list[str]
