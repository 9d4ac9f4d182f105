"""The lists of quotes and orders over HTTP: the only routes that read projections."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse

from domain.projections import searching
from workers.http.auth import FOLLOWERS, TRADERS
from workers.http.calls import Read, Reading, read_response
from workers.http.document.responses import read_responses
from workers.http.shapes import buyer_answers, order_answers, quote_answers
from workers.http.shapes.list_queries import OrderQuery, QuoteQuery

router = APIRouter()


@router.get("/quotes", tags=["quotes"], responses=read_responses(quote_answers.QuotePage | buyer_answers.OfferPage))
def list_quotes(read: Annotated[Read, Depends(Reading(TRADERS))], query: Annotated[QuoteQuery, Query()]) -> JSONResponse:
    """List quotes by number, customer, status and dates. A buyer gets only those of the customers in the token.

    The list follows the changes, as a rule within a second, and may be behind: it does not promise to show your own last command. `version`
    says which version an item shows, `asOf` is the time of the newest change in the list. The truth is at `GET /quotes/{quoteId}`.
    """
    found = read.run(lambda uow: searching.search(uow, query.question(read.customers)))
    return read_response(buyer_answers.OfferPage.for_customers(read.customers, query.page(found)))


@router.get("/orders", tags=["orders"], responses=read_responses(order_answers.OrderPage | buyer_answers.PlacedOrderPage))
def list_orders(read: Annotated[Read, Depends(Reading(FOLLOWERS))], query: Annotated[OrderQuery, Query()]) -> JSONResponse:
    """List orders by number, quote, customer, status and dates. A buyer gets only those of the customers in the token.

    The list follows the changes, as a rule within a second, and may be behind: it does not promise to show your own last command. `version`
    says which version an item shows, `asOf` is the time of the newest change in the list. The truth is at `GET /orders/{orderId}`.
    """
    found = read.run(lambda uow: searching.search(uow, query.question(read.customers)))
    return read_response(buyer_answers.PlacedOrderPage.for_customers(read.customers, query.page(found)))
