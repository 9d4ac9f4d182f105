"""Quotes over HTTP: create, read, edit, price, submit."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain.errors import Invalid
from domain.offers import quoting, reading
from domain.offers.prices import PriceMissing, PriceTooLarge
from domain.offers.quotes import QuoteStatus, UnknownLine
from domain.store import Answer, UnitOfWork
from workers.http.auth import SELLERS, TRADERS
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.shapes import answers, bodies, quote_answers

router = APIRouter(prefix="/quotes", tags=["quotes"])

QuoteId = Annotated[UUID, Path(alias="quoteId")]


def quote_as_it_stands(uow: UnitOfWork, quote_id: UUID, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """The quote after a command of the seller's."""
    body = reading.quote(uow, quote_id)
    return Answer(status=status, body=body, version=body["version"])


@router.post("", status_code=201, responses=described_command(answers.ShownQuote, 201, refusals=(Invalid,)))
def create_quote(call: Annotated[Call, Depends(Commanding("create-quote", SELLERS))], body: bodies.CreateQuoteBody) -> JSONResponse:
    """Open a quote; its owner is the token's subject."""
    given = {name: getattr(body, name) for name in ("customer_id", "currency", "payment_term_days", "valid_until")}

    def work(uow: UnitOfWork) -> Answer:
        created = quoting.create(
            uow,
            quoting.CreateQuote(
                owner_user_id=call.principal.subject,
                region=body.region or call.principal.region,
                lines=[line.line(number) for number, line in enumerate(body.lines, start=1)],
                **given,
            ),
        )
        return quote_as_it_stands(uow, created.id, HTTPStatus.CREATED)

    return call.run(body, work, location="/quotes/{quoteId}")


@router.get("", responses=described_read(answers.QuotePage | quote_answers.OfferPage))
def list_quotes(
    looking: Annotated[Look, Depends(Looking(TRADERS))],
    status: Annotated[QuoteStatus | None, Query()] = None,
    customer_id: Annotated[str | None, Query(alias="customerId", max_length=200, pattern=r"^[^\x00]+$")] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List quotes by status and customer; a buyer's are those of the customers in the token."""
    found = looking.at(lambda uow: reading.quotes_of(uow, status, customer_id, limit + 1, after, looking.customers))
    body = page(found, limit, "quoteId")
    return shown(body if looking.customers is None else quote_answers.OfferPage.of(body))


@router.get("/{quoteId}", responses=described_read(answers.ShownQuote | quote_answers.OfferedQuote, has_version=True))
def read_quote(looking: Annotated[Look, Depends(Looking(TRADERS))], quote_id: QuoteId) -> JSONResponse:
    """Read a quote with its version and the ids that its next commands must name."""
    body = looking.at(lambda uow: reading.quote(uow, quote_id))
    return shown(body if looking.customers is None else quote_answers.OfferedQuote.of(body))


@router.patch("/{quoteId}", responses=described_command(answers.ShownQuote, 200, "quote.edit", refusals=(UnknownLine, Invalid)))
def edit_quote(
    call: Annotated[Call, Depends(Commanding("edit-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.EditQuoteBody,
) -> JSONResponse:
    """Change header fields and lines; after submission this makes the next revision and voids the approval of the old one."""

    def work(uow: UnitOfWork) -> Answer:
        quoting.edit(
            uow,
            quoting.EditQuote(
                quote_id=quote_id,
                expected_version=if_match.required(),
                revision_id=body.expected_revision_id,
                reason_code=body.reason_code,
                term_months=body.term_months,
                valid_until=body.valid_until,
                lines=[change.change() for change in body.lines],
                add_lines=[line.line(number) for number, line in enumerate(body.add_lines, start=1)],
                remove_lines=body.remove_lines,
            ),
        )
        return quote_as_it_stands(uow, quote_id)

    return call.run(body, work)


@router.post(
    "/{quoteId}/price", responses=described_command(answers.ShownQuote, 200, "quote.price", refusals=(PriceMissing, PriceTooLarge))
)
def price_quote(
    call: Annotated[Call, Depends(Commanding("price-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.PriceQuoteBody,
) -> JSONResponse:
    """Put a price on the current configuration."""

    def work(uow: UnitOfWork) -> Answer:
        version = if_match.required()
        given = {name: getattr(body, name) for name in bodies.PriceQuoteBody.model_fields}
        quoting.price(uow, quoting.PriceQuote(quote_id=quote_id, expected_version=version, **given))
        return quote_as_it_stands(uow, quote_id)

    return call.run(body, work)


@router.post("/{quoteId}/submissions", status_code=201, responses=described_command(answers.ShownQuote, 201, "quote.submit"))
def submit_quote(
    call: Annotated[Call, Depends(Commanding("submit-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.SubmitQuoteBody,
) -> JSONResponse:
    """Ask for approval of exactly this revision, configuration and price."""

    def work(uow: UnitOfWork) -> Answer:
        version = if_match.required()
        given = {name: getattr(body, name) for name in bodies.SubmitQuoteBody.model_fields}
        quoting.submit(uow, quoting.SubmitQuote(quote_id=quote_id, expected_version=version, **given))
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)
