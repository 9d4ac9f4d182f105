"""Orders over HTTP: read one, list them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from domain import reading
from workers.http import answers
from workers.http.calls import Reading, shown
from workers.http.described import described_read
from workers.http.paging import After, Limit, page

router = APIRouter(prefix="/orders", tags=["orders"])


@router.get("", responses=described_read(answers.OrderPage))
def list_orders(
    looking: Reading, quote_id: Annotated[UUID | None, Query(alias="quoteId")] = None, limit: Limit = 50, after: After = None
) -> JSONResponse:
    """List orders, of one quote or of all."""
    return shown(page(looking.at(lambda uow: reading.orders_of(uow, quote_id, limit + 1, after)), limit, "orderId"))


@router.get("/{orderId}", responses=described_read(answers.ShownOrder, has_version=True))
def read_order(looking: Reading, order_id: Annotated[UUID, Path(alias="orderId")]) -> JSONResponse:
    """Read an order with its steps and their versions."""
    return shown(looking.at(lambda uow: reading.order(uow, order_id)))
