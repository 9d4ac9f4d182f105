"""What clients get, as OpenAPI shows it; a contract test holds the real answers against these models."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from http import HTTPStatus
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from domain.store import Answer


class Shown(BaseModel):
    """An answer's JSON, in camelCase."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, validate_by_alias=True, validate_by_name=True)

    def answer(self, status: HTTPStatus, version: int | None = None) -> Answer:
        """This as the answer to a command; `version` is the ETag's."""
        return Answer(status=status, body=self.model_dump(mode="json", by_alias=True), version=version)


class Problem(BaseModel):
    """RFC 9457, with the lesson's members. The id of the aggregate stands under its own name, such as `quoteId`."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    type: str
    title: str
    status: int
    code: str = Field(description="Stable; the same word in logs and metrics")
    detail: str
    expected_version: int | None = None
    current_version: int | None = None
    safe_user_action: str = Field(description="What may safely be done next")


class ShownPrice(Shown):
    price_book_version: str
    list_total: Decimal
    net_total: Decimal
    max_discount_percent: Decimal
    margin_percent: Decimal
    staleness_policy: str


class ShownLine(Shown):
    line_no: int
    product_offering_id: str
    quantity: int
    term_months: int
    discount_percent: Decimal
    action: str
    reason_code: str | None


class QuoteHeader(Shown):
    quote_id: UUID
    quote_number: str
    version: int
    status: str
    customer_id: str
    owner_user_id: str
    region: str
    currency: str
    payment_term_days: int
    valid_until: datetime
    created_at: datetime
    updated_at: datetime


class ListedQuote(QuoteHeader):
    current_revision_id: UUID


class ShownQuote(QuoteHeader):
    """A quote with the ids that its next commands must name."""

    revision_id: UUID
    revision_no: int
    revision_status: str
    catalog_version: str
    config_result_id: UUID | None
    price_result_id: UUID | None
    approval_request_id: UUID | None
    document_id: UUID | None
    order_id: UUID | None
    price: ShownPrice | None
    lines: list[ShownLine]


class QuotePage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[ListedQuote]
    next: UUID | None


class ShownDocument(Shown):
    document_id: UUID
    quote_id: UUID
    revision_id: UUID
    price_result_id: UUID


class ShownAcceptance(Shown):
    order_id: UUID
    order_number: str
    order_status: str
    quote_id: UUID
    quote_version: int
    revision_id: UUID


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


class TaskList(Shown):
    """The most urgent first."""

    items: list[ShownTask]


class ShownDecision(Shown):
    requirement_id: UUID
    requirement_status: str
    requirement_version: int
    quote_id: UUID
    quote_status: str
    quote_version: int


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
    is_ponr: bool


class OrderHeader(Shown):
    order_id: UUID
    order_number: str
    order_kind: str
    version: int
    status: str
    quote_id: UUID
    quote_revision_id: UUID
    customer_id: str
    ponr_reached: bool
    priority: int
    requested_completion: datetime | None
    hold_reason: str | None
    created_at: datetime
    updated_at: datetime


class ShownOrder(OrderHeader):
    """An order with its steps."""

    steps: list[ShownStep]


class OrderPage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[OrderHeader]
    next: UUID | None


class ShownCallback(Shown):
    """What became of an event: APPLIED, NO_EFFECT, CONTRADICTION or UNMATCHED."""

    processed_status: str
    replayed: bool


class Health(Shown):
    status: str
