"""What a buyer gets about quotes and orders: only the members that are listed here (OWASP API3:2023).

The seller keeps cost, margin, the people who handle the offer, and how and why it came about. A buyer gets everything that accepting or
declining needs.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from workers.http.shapes.answers import Shown


class Offered(Shown):
    """The part of a seller's answer that a buyer gets: its own members and nothing else."""

    model_config = ConfigDict(
        extra="ignore",
        frozen=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        json_schema_extra={"additionalProperties": False},
    )

    @classmethod
    def of(cls, body: dict[str, Any]) -> dict[str, Any]:
        """The members of `body` that this lists."""
        return cls.model_validate(body).model_dump(mode="json", by_alias=True)

    @classmethod
    def for_customers(cls, customers: frozenset[str] | None, body: dict[str, Any]) -> dict[str, Any]:
        """`body` for a caller who is confined to these customers, a buyer; None is a caller who gets all of it."""
        return body if customers is None else cls.of(body)


class OfferedPage(Offered):
    """A page of a list: see `ListPage`."""

    next: str | None
    total: int
    as_of: datetime | None


class OfferedPrice(Offered):
    list_total: Decimal
    net_total: Decimal


class OfferedLine(Offered):
    line_no: int
    product_offering_id: str
    quantity: int
    term_months: int
    discount_percent: Decimal


class OfferHeader(Offered):
    quote_id: UUID
    quote_number: str
    version: int
    status: str
    customer_id: str
    currency: str
    payment_term_days: int
    net_total: Decimal | None
    valid_until: datetime
    created_at: datetime
    updated_at: datetime


class ListedOffer(OfferHeader):
    current_revision_id: UUID


class OfferPage(OfferedPage):
    """As a buyer sees it."""

    items: list[ListedOffer]


class OfferedQuote(OfferHeader):
    """As a buyer sees it: with the ids that accepting it must name."""

    revision_id: UUID
    revision_no: int
    price_result_id: UUID | None
    approval_request_id: UUID | None
    document_id: UUID | None
    order_id: UUID | None
    price: OfferedPrice | None
    lines: list[OfferedLine]


class OrderedStep(Offered):
    step_id: UUID
    step_code: str
    kind: str
    status: str


class PlacedOrderHeader(Offered):
    order_id: UUID
    order_number: str
    order_kind: str
    version: int
    status: str
    quote_id: UUID
    quote_revision_id: UUID
    customer_id: str
    requested_completion: datetime | None
    currency: str | None
    net_total: Decimal | None
    created_at: datetime
    updated_at: datetime


class PlacedOrder(PlacedOrderHeader):
    """As a buyer sees it."""

    steps: list[OrderedStep]


class PlacedOrderPage(OfferedPage):
    """As a buyer sees it."""

    items: list[PlacedOrderHeader]
