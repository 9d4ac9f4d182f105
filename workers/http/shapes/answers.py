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


class ShownConfiguration(Shown):
    """What the catalog says of the lines: why they cannot be sold as they are, or nothing."""

    valid: bool
    messages: list[str]
    catalog_version: str


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
    reason_code: str | None = Field(description="Why it was changed or withdrawn last, in the words of who did it")
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
    configuration: ShownConfiguration
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
    created_at: datetime
    updated_at: datetime


class ShownOrder(OrderHeader):
    """An order with its steps; past the point of no return it cannot be cancelled any more."""

    ponr_reached: bool
    steps: list[ShownStep]


class OrderPage(Shown):
    """`next` is the value for `after` that gives the next page; null on the last one."""

    items: list[OrderHeader]
    next: UUID | None


class ShownEntry(Shown):
    """Per piece and month."""

    product_offering_id: str
    list_price: Decimal
    unit_cost: Decimal


class ShownPriceBook(Shown):
    """The version that counts now."""

    price_book: str
    active_version: str
    version: int
    published_at: datetime
    material_offering_ids: list[str]
    entries: list[ShownEntry]


class ShownCallback(Shown):
    """What became of an event: APPLIED, NO_EFFECT, CONTRADICTION or UNMATCHED."""

    processed_status: str
    replayed: bool


class Health(Shown):
    status: str
