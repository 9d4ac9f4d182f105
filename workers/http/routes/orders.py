"""Orders over HTTP: read one, list them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain.delivery import reading
from domain.delivery.orders import OrderStatus
from workers.http.auth import FOLLOWERS
from workers.http.calls import Look, Looking, shown
from workers.http.document.responses import described_read
from workers.http.paging import After, Limit, page
from workers.http.shapes import answers, quote_answers

router = APIRouter(prefix="/orders", tags=["orders"])


@router.get("", responses=described_read(answers.OrderPage | quote_answers.PlacedOrderPage))
def list_orders(
    looking: Annotated[Look, Depends(Looking(FOLLOWERS))],
    quote_id: Annotated[UUID | None, Query(alias="quoteId")] = None,
    status: Annotated[OrderStatus | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List orders, of one quote or of all, by status; a buyer's are those of the customers in the token."""
    found = looking.at(
        lambda uow: reading.orders_of(uow, limit + 1, after, quote_id=quote_id, status=status, customers=looking.customers)
    )
    body = page(found, limit, "orderId")
    return shown(body if looking.customers is None else quote_answers.PlacedOrderPage.of(body))


@router.get("/{orderId}", responses=described_read(answers.ShownOrder | quote_answers.PlacedOrder, has_version=True))
def read_order(
    looking: Annotated[Look, Depends(Looking(FOLLOWERS))], order_id: Annotated[UUID, Path(alias="orderId")]
) -> JSONResponse:
    """Read an order with its steps and their versions."""
    body = looking.at(lambda uow: reading.order(uow, order_id))
    return shown(body if looking.customers is None else quote_answers.PlacedOrder.of(body))
