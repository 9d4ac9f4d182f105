"""Orders over HTTP: list them, and read one."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain.delivery import reading
from domain.delivery.orders import OrderStatus
from workers.http.auth import FOLLOWERS
from workers.http.calls import Read, Reading, read_response
from workers.http.document.responses import read_responses
from workers.http.paging import After, Limit, page
from workers.http.shapes import buyer_answers, order_answers

router = APIRouter(prefix="/orders", tags=["orders"])

OrderId = Annotated[UUID, Path(alias="orderId")]


@router.get("", responses=read_responses(order_answers.OrderPage | buyer_answers.PlacedOrderPage))
def list_orders(
    read: Annotated[Read, Depends(Reading(FOLLOWERS))],
    quote_id: Annotated[UUID | None, Query(alias="quoteId")] = None,
    status: Annotated[OrderStatus | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List orders, of one quote or of all, by status. A buyer gets only those of the customers in the token."""
    found = read.run(
        lambda uow: reading.orders_of(uow, limit + 1, after, quote_id=quote_id, status=status, customers=read.customers)
    )
    return read_response(buyer_answers.PlacedOrderPage.for_customers(read.customers, page(found, limit, "orderId")))


@router.get("/{orderId}", responses=read_responses(order_answers.ShownOrder | buyer_answers.PlacedOrder, has_version=True))
def read_order(read: Annotated[Read, Depends(Reading(FOLLOWERS))], order_id: OrderId) -> JSONResponse:
    """Read an order with its steps and their versions."""
    body = read.run(lambda uow: reading.order(uow, order_id))
    return read_response(buyer_answers.PlacedOrder.for_customers(read.customers, body))
