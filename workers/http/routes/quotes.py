"""Quotes over HTTP: create, read, edit, price and submit them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from domain.errors import Invalid
from domain.offers import quoting, reading
from domain.offers.prices import PriceMissing, PriceTooLarge
from domain.offers.quotes import UnknownLine
from domain.store import Answer, UnitOfWork
from workers.http.auth import SELLERS, TRADERS
from workers.http.calls import Call, Commanding, Read, Reading, answer_with, read_response
from workers.http.document.responses import command_responses, read_responses
from workers.http.preconditions import Precondition
from workers.http.shapes import buyer_answers, quote_answers, quote_bodies

router = APIRouter(prefix="/quotes", tags=["quotes"])

QuoteId = Annotated[UUID, Path(alias="quoteId")]


def quote_as_it_stands(uow: UnitOfWork, quote_id: UUID, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """The answer to a command of the seller: the quote after it."""
    return answer_with(reading.quote(uow, quote_id), status)


@router.post("", status_code=201, responses=command_responses(quote_answers.ShownQuote, 201, refusals=(Invalid,)))
def create_quote(
    call: Annotated[Call, Depends(Commanding("create-quote", SELLERS))], body: quote_bodies.CreateQuoteBody
) -> JSONResponse:
    """Create a quote. Its owner is the subject of the token."""

    def work(uow: UnitOfWork) -> Answer:
        created = quoting.create(uow, body.command(call.principal.subject, call.principal.region))
        return quote_as_it_stands(uow, created.id, HTTPStatus.CREATED)

    return call.run(body, work, location="/quotes/{quoteId}")


@router.get("/{quoteId}", responses=read_responses(quote_answers.ShownQuote | buyer_answers.OfferedQuote, has_version=True))
def read_quote(read: Annotated[Read, Depends(Reading(TRADERS))], quote_id: QuoteId) -> JSONResponse:
    """Read a quote with its version and the ids that its next commands must name."""
    body = read.run(lambda uow: reading.quote(uow, quote_id))
    return read_response(buyer_answers.OfferedQuote.for_customers(read.customers, body))


@router.patch(
    "/{quoteId}", responses=command_responses(quote_answers.ShownQuote, 200, "quote.edit", refusals=(UnknownLine, Invalid))
)
def edit_quote(
    call: Annotated[Call, Depends(Commanding("edit-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.EditQuoteBody,
) -> JSONResponse:
    """Change header fields and lines. After submission this creates the next revision, and the approval of the old one no longer counts."""

    def work(uow: UnitOfWork) -> Answer:
        quoting.edit(uow, body.command(quote_id, if_match.required()))
        return quote_as_it_stands(uow, quote_id)

    return call.run(body, work)


@router.post(
    "/{quoteId}/price",
    responses=command_responses(quote_answers.ShownQuote, 200, "quote.price", refusals=(PriceMissing, PriceTooLarge)),
)
def price_quote(
    call: Annotated[Call, Depends(Commanding("price-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.PriceQuoteBody,
) -> JSONResponse:
    """Price the current configuration."""

    def work(uow: UnitOfWork) -> Answer:
        quoting.price(uow, body.command(quote_id, if_match.required()))
        return quote_as_it_stands(uow, quote_id)

    return call.run(body, work)


@router.post("/{quoteId}/submissions", status_code=201, responses=command_responses(quote_answers.ShownQuote, 201, "quote.submit"))
def submit_quote(
    call: Annotated[Call, Depends(Commanding("submit-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.SubmitQuoteBody,
) -> JSONResponse:
    """Ask for approval of exactly this revision, configuration and price."""

    def work(uow: UnitOfWork) -> Answer:
        quoting.submit(uow, body.command(quote_id, if_match.required()))
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)
