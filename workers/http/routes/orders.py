"""Orders over HTTP: read one. `lists` has the list."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from domain.delivery import reading
from workers.http.auth import FOLLOWERS
from workers.http.calls import Read, Reading, read_response
from workers.http.document.responses import read_responses
from workers.http.shapes import buyer_answers, order_answers

router = APIRouter(prefix="/orders", tags=["orders"])

OrderId = Annotated[UUID, Path(alias="orderId")]


@router.get("/{orderId}", responses=read_responses(order_answers.ShownOrder | buyer_answers.PlacedOrder, has_version=True))
def read_order(read: Annotated[Read, Depends(Reading(FOLLOWERS))], order_id: OrderId) -> JSONResponse:
    """Read an order with its steps and their versions."""
    body = read.run(lambda uow: reading.order(uow, order_id))
    return read_response(buyer_answers.PlacedOrder.for_customers(read.customers, body))
