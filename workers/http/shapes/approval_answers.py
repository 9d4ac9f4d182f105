"""What clients get about approvals: tasks, decisions, the explanation of an approval, and authority grants."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from pydantic import Field

from workers.http.shapes.answers import Shown


class ShownTask(Shown):
    task_id: UUID
    requirement_id: UUID
    requirement_version: int
    type: str
    level: int
    approver_group: str
    min_authority: Decimal
    due_at: datetime
    quote_id: UUID
    quote_revision_id: UUID
    price_result_id: UUID


class TaskPage(Shown):
    """The most urgent first. `next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ShownTask]
    next: UUID | None


class ShownDecision(Shown):
    requirement_id: UUID
    requirement_status: str
    requirement_version: int
    quote_id: UUID
    quote_status: str
    quote_version: int


class ShownAuthority(Shown):
    """The grant that covered a decision, as it was at that time, and the authority that the requirement needed."""

    grant_id: UUID
    role: str
    roles: list[str] = Field(description="The roles of the signer's login or token")
    region: str | None
    product_family: str | None
    max_discount_percent: Decimal
    max_deal_amount: Decimal | None
    min_authority: Decimal
    delegated_by: str | None


class MadeDecision(Shown):
    decision_id: UUID
    decision: str = Field(description="APPROVE, REJECT, REWORK, or REUSED: an earlier approval carries over")
    decided_by: str
    decided_at: datetime
    authority_snapshot: ShownAuthority
    reason_code: str
    comment: str | None
    basis_decision_id: UUID | None = Field(description="The earlier decision that a REUSED one carries over")


class ShownRequirement(Shown):
    requirement_id: UUID
    version: int
    type: str
    level: int
    approver_group: str
    min_authority: Decimal
    because: str = Field(description="The sentence of the rule that demands this signature")
    status: str
    escalation_level: int
    remind_at: datetime
    reminded_at: datetime | None
    due_at: datetime
    decision: MadeDecision | None


class ShownRequest(Shown):
    """An approval request: may this revision be offered at this price?"""

    request_id: UUID
    version: int
    status: str
    quote_revision_id: UUID
    revision_no: int
    price_result_id: UUID
    price_book_version: str
    net_total: Decimal
    max_discount_percent: Decimal
    margin_percent: Decimal
    policy_definition_id: str
    created_at: datetime
    updated_at: datetime
    requirements: list[ShownRequirement]


class RequestPage(Shown):
    """The newest revision first. `next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ShownRequest]
    next: UUID | None


class ShownGrant(Shown):
    """How far a signature reaches. A null region, product family or amount means every one; a null end means until it is revoked."""

    grant_id: UUID
    version: int
    status: str
    subject: str
    role: str
    region: str | None
    product_family: str | None
    max_discount_percent: Decimal
    max_deal_amount: Decimal | None = Field(description="In the currency of the quote")
    valid_from: datetime
    valid_until: datetime | None
    delegated_from: UUID | None = Field(description="The grant that this one delegates")
    delegated_by: str | None
    granted_by: str | None = Field(description="Null: before the product kept it")
    confirmed_by: str | None = Field(description="The second administrator, where one is needed")
    created_at: datetime
    updated_at: datetime


class GrantPage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ShownGrant]
    next: UUID | None
