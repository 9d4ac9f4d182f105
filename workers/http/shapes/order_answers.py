"""What clients get about orders, cancellation requests, timelines and fallout cases, and providers about their callbacks.

Buyers get `buyer_answers` instead of orders.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from workers.http.shapes.answers import ListPage, Shown


class ShownStep(Shown):
    step_id: UUID
    step_code: str
    kind: str
    status: str
    version: int
    attempt_no: int
    provider_name: str
    external_ref: str | None
    final_reason: str | None
    failure_class: str
    is_ponr: bool
    compensates_step_id: UUID | None
    cancel_requested_at: datetime | None


class OrderHeader(Shown):
    order_id: UUID
    order_number: str
    order_kind: str
    version: int
    status: str
    quote_id: UUID
    quote_revision_id: UUID
    customer_id: str
    priority: int
    requested_completion: datetime | None
    hold_reason: str | None
    currency: str | None
    net_total: Decimal | None = Field(description="The accepted price, in `currency`")
    created_at: datetime
    updated_at: datetime


class ShownOrder(OrderHeader):
    """An order with its steps. Past the point of no return it can no longer be cancelled."""

    ponr_reached: bool
    steps: list[ShownStep]


class OrderPage(ListPage):
    items: list[OrderHeader]


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
    """One entry. Its kind decides which further members it has: `transitionFrom`, `eventType`, `idempotencyKey`, `said`, …"""

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
    business_key: str | None
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


class ShownProposal(Shown):
    """A resolution that a second person must confirm."""

    proposal_id: UUID
    resolution: str
    external_ref: str
    evidence: str
    proposed_by: str
    created_at: datetime


class ShownRepair(Shown):
    """What a person has repaired in a request to the provider; `requestNo` is the request with the new value."""

    request_no: int
    field: str
    old: str | int | None
    new: str | int | None
    repaired_by: str
    created_at: datetime


class ShownRequest(Shown):
    """What the request of a held step says; its fields may be repaired."""

    product_offering_id: str
    quantity: int
    instructions: str | None


class ShownCase(ListedCase):
    """A case with its step as it stands, its notes, its repairs, what waits for a second person, and the resolutions that its reader may choose."""

    step_code: str | None
    step_status: str | None
    step_version: int | None
    request: ShownRequest | None
    repairs: list[ShownRepair]
    notes: list[ShownNote]
    proposal: ShownProposal | None
    resolutions: list[str]


class ShownCallback(Shown):
    """What became of an event: APPLIED, NO_EFFECT, CONTRADICTION or UNMATCHED."""

    processed_status: str
    replayed: bool
