"""What sellers get about quotes, and what clients get about documents, acceptances and price books. Buyers get `buyer_answers`."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from pydantic import Field

from workers.http.shapes.answers import ListPage, Shown


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
    """What the catalog says about the lines; `messages` tell why they cannot be sold as they are."""

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
    net_total: Decimal | None = Field(description="Of the current revision, if it is priced; in the currency of the quote")
    reason_code: str | None = Field(description="Why it was last changed or withdrawn; the code of the person who did it")
    created_at: datetime
    updated_at: datetime


class ListedQuote(QuoteHeader):
    """As the list shows it, at `version`."""

    current_revision_id: UUID
    approval_count: int = Field(description="Signatures that approve the current revision")


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


class QuotePage(ListPage):
    items: list[ListedQuote]


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


class ShownEntry(Shown):
    """Per piece and month."""

    product_offering_id: str
    list_price: Decimal
    unit_cost: Decimal


class ShownPriceBook(Shown):
    """The active version of a price book."""

    price_book: str
    active_version: str
    version: int
    published_at: datetime
    material_offering_ids: list[str]
    entries: list[ShownEntry]
