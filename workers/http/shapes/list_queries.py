"""The queries of the lists of quotes and orders: filters, order and page. An unknown name is refused, so no filter is misspelt unnoticed.

The place of a page (`after`) holds the sorted value and the id of the last item before it, so that rows that change meanwhile neither
repeat a page nor skip one.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self
from uuid import UUID

from pydantic import Field, model_validator

from domain.delivery.orders import OrderStatus
from domain.offers.quotes import QuoteStatus
from domain.projections.searching import After, Found, Search
from domain.projections.tables import Projection
from domain.texts import is_storable
from domain.times import in_utc
from workers.http.paging import IN_DIGITS, LARGEST_PAGE
from workers.http.shapes.bodies import Body
from workers.http.shapes.fields import Moment, Text

LONGEST_PLACE = 1_000


class QuoteOrder(StrEnum):
    NEWEST = "-createdAt"
    OLDEST = "createdAt"
    LAST_CHANGED = "-updatedAt"
    FIRST_CHANGED = "updatedAt"
    ENDS_FIRST = "validUntil"
    ENDS_LAST = "-validUntil"
    CUSTOMER = "customerId"


class OrderOrder(StrEnum):
    NEWEST = "-createdAt"
    OLDEST = "createdAt"
    LAST_CHANGED = "-updatedAt"
    FIRST_CHANGED = "updatedAt"
    CUSTOMER = "customerId"


COLUMNS = {"createdAt": "created_at", "updatedAt": "updated_at", "validUntil": "valid_until", "customerId": "customer_id"}


class ListQuery(Body):
    """What both lists have in common. `createdFrom` is the first moment that counts, `createdBefore` the first that does not."""

    PROJECTION: ClassVar[Projection]
    EQUAL: ClassVar[tuple[str, ...]]
    SPANS: ClassVar[dict[str, tuple[str, str]]]

    customer_id: Text | None = None
    created_from: Moment | None = None
    created_before: Moment | None = None
    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE, description="Items on this page"), IN_DIGITS] = 50
    after: Annotated[str | None, Field(max_length=LONGEST_PLACE, description="`next` of the previous page, in the same order")] = (
        None
    )

    @model_validator(mode="after")
    def _is_a_place(self) -> Self:
        self._place()
        return self

    def question(self, customers: frozenset[str] | None) -> Search:
        """The question for the projection; a caller who is confined to customers gets only theirs."""
        column, is_descending = self._order()
        return Search(
            projection=self.PROJECTION,
            sort=column,
            is_descending=is_descending,
            limit=self.limit,
            equal=self._given({name: name for name in self.EQUAL}),
            since=self._given({first: column for column, (first, _) in self.SPANS.items()}),
            before=self._given({end: column for column, (_, end) in self.SPANS.items()}),
            customers=customers,
            after=self._place(),
        )

    def page(self, found: Found) -> dict[str, Any]:
        """The answer: a page, the place of the next one, how many there are in all, and how far the list has come."""
        as_of = found.as_of and found.as_of.isoformat()
        return {"items": found.items, "next": self._written(found.last), "total": found.total, "asOf": as_of}

    def _given(self, columns: dict[str, str]) -> dict[str, Any]:
        given = {column: getattr(self, name) for name, column in columns.items()}
        return {column: value for column, value in given.items() if value is not None}

    def _order(self) -> tuple[str, bool]:
        name: str = getattr(self, "sort")  # noqa: B009 - each list has orders of its own
        return COLUMNS[name.removeprefix("-")], name.startswith("-")

    def _written(self, last: After | None) -> str | None:
        if last is None:
            return None
        value = last.value.isoformat() if isinstance(last.value, datetime) else last.value
        return urlsafe_b64encode(json.dumps([self._order()[0], value, str(last.row_id)]).encode()).decode()

    def _place(self) -> After | None:
        if self.after is None:
            return None
        try:
            column, value, row_id = json.loads(urlsafe_b64decode(self.after.encode()))
            place = After(value if column == "customer_id" else in_utc(datetime.fromisoformat(value)), UUID(row_id))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("`after` is not the `next` of a page") from error
        if column != self._order()[0] or not isinstance(place.value, str | datetime) or not is_storable(str(place.value)):
            raise ValueError("`after` is of a list in another order")
        return place


class QuoteQuery(ListQuery):
    PROJECTION = Projection.QUOTES
    EQUAL = ("quote_number", "customer_id", "status")
    SPANS: ClassVar = {"created_at": ("created_from", "created_before"), "valid_until": ("valid_from", "valid_before")}

    quote_number: Text | None = None
    status: QuoteStatus | None = None
    valid_from: Annotated[Moment | None, Field(description="The first `validUntil` that counts")] = None
    valid_before: Annotated[Moment | None, Field(description="The first `validUntil` that does not count")] = None
    sort: QuoteOrder = QuoteOrder.NEWEST


class OrderQuery(ListQuery):
    PROJECTION = Projection.ORDERS
    EQUAL = ("order_number", "quote_id", "customer_id", "status")
    SPANS: ClassVar = {
        "created_at": ("created_from", "created_before"),
        "requested_completion": ("completion_from", "completion_before"),
    }

    order_number: Text | None = None
    quote_id: UUID | None = None
    status: OrderStatus | None = None
    completion_from: Annotated[Moment | None, Field(description="The first `requestedCompletion` that counts")] = None
    completion_before: Annotated[Moment | None, Field(description="The first `requestedCompletion` that does not count")] = None
    sort: OrderOrder = OrderOrder.NEWEST
