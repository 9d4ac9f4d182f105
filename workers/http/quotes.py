"""Quotes over HTTP: create, read, edit, price, submit, issue the document, accept."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain import accepting, documents, quoting, reading
from domain.errors import Invalid
from domain.prices import PriceMissing
from domain.quotes import QuoteStatus, UnknownLine
from domain.store import Answer, UnitOfWork
from workers.http import answers, bodies
from workers.http.auth import BUYERS, SELLERS
from workers.http.calls import Call, Reading, command, shown
from workers.http.described import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition

router = APIRouter(prefix="/quotes", tags=["quotes"])

QuoteId = Annotated[UUID, Path(alias="quoteId")]


def _quote(uow: UnitOfWork, quote_id: UUID, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    body = reading.quote(uow, quote_id)
    return Answer(status=status, body=body, version=body["version"])


@router.post("", status_code=201, responses=described_command(answers.ShownQuote, 201, refusals=(Invalid,)))
def create_quote(call: Annotated[Call, Depends(command("create-quote", SELLERS))], body: bodies.CreateQuoteBody) -> JSONResponse:
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
        return _quote(uow, created.id, HTTPStatus.CREATED)

    return call.run(body, work, location="/quotes/{quoteId}")


@router.get("", responses=described_read(answers.QuotePage))
def list_quotes(
    looking: Reading,
    status: Annotated[QuoteStatus | None, Query()] = None,
    customer_id: Annotated[str | None, Query(alias="customerId", max_length=200, pattern=r"^[^\x00]+$")] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List quotes by status and customer."""
    found = looking.at(lambda uow: reading.quotes_of(uow, status, customer_id, limit + 1, after))
    return shown(page(found, limit, "quoteId"))


@router.get("/{quoteId}", responses=described_read(answers.ShownQuote, has_version=True))  # noqa: FAST003 - the alias stands in QuoteId
def read_quote(looking: Reading, quote_id: QuoteId) -> JSONResponse:
    """Read a quote with its version and the ids that its next commands must name."""
    return shown(looking.at(lambda uow: reading.quote(uow, quote_id)))


@router.patch("/{quoteId}", responses=described_command(answers.ShownQuote, 200, "quote.edit", refusals=(UnknownLine,)))
def edit_quote(
    call: Annotated[Call, Depends(command("edit-quote", SELLERS))],
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
        return _quote(uow, quote_id)

    return call.run(body, work)


@router.post("/{quoteId}/price", responses=described_command(answers.ShownQuote, 200, "quote.price", refusals=(PriceMissing,)))
def price_quote(
    call: Annotated[Call, Depends(command("price-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.PriceQuoteBody,
) -> JSONResponse:
    """Put a price on the current configuration."""

    def work(uow: UnitOfWork) -> Answer:
        version = if_match.required()
        given = {name: getattr(body, name) for name in bodies.PriceQuoteBody.model_fields}
        quoting.price(uow, quoting.PriceQuote(quote_id=quote_id, expected_version=version, **given))
        return _quote(uow, quote_id)

    return call.run(body, work)


@router.post("/{quoteId}/submissions", status_code=201, responses=described_command(answers.ShownQuote, 201, "quote.submit"))
def submit_quote(
    call: Annotated[Call, Depends(command("submit-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.SubmitQuoteBody,
) -> JSONResponse:
    """Ask for approval of exactly this revision, configuration and price."""

    def work(uow: UnitOfWork) -> Answer:
        version = if_match.required()
        given = {name: getattr(body, name) for name in bodies.SubmitQuoteBody.model_fields}
        quoting.submit(uow, quoting.SubmitQuote(quote_id=quote_id, expected_version=version, **given))
        return _quote(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)


@router.post("/{quoteId}/documents", status_code=201, responses=described_command(answers.ShownDocument, 201, "quote.document"))
def issue_document(
    call: Annotated[Call, Depends(command("issue-document", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.IssueDocumentBody,
) -> JSONResponse:
    """Write the offer down for the customer; the same offer gives the same document."""

    def work(uow: UnitOfWork) -> Answer:
        version = if_match.required()
        named = {"revision_id": body.revision_id, "price_result_id": body.price_result_id}
        command = documents.IssueDocument(quote_id=quote_id, expected_version=version, **named)
        issued = answers.ShownDocument(document_id=documents.issue(uow, command), quote_id=quote_id, **named)
        return issued.answer(HTTPStatus.CREATED, version)

    return call.run(body, work)


@router.post(
    "/{quoteId}/acceptances",
    status_code=201,
    responses=described_command(
        answers.ShownAcceptance, 201, "quote.accept", also_ok="The same order: an identical acceptance came first."
    ),
)
def accept_quote(
    call: Annotated[Call, Depends(command("accept-quote", BUYERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.AcceptQuoteBody,
) -> JSONResponse:
    """Accept exactly the revision, price, approval and document that the customer saw; its order exists from then on."""

    def work(uow: UnitOfWork) -> Answer:
        given = {name: getattr(body, name) for name in bodies.AcceptQuoteBody.model_fields}
        accepted = accepting.accept(uow, accepting.AcceptQuote(quote_id=quote_id, expected_version=if_match.required(), **given))
        order = answers.ShownAcceptance(
            order_id=accepted.order.id,
            order_number=accepted.order.order_number,
            order_status=accepted.order.status,
            quote_id=quote_id,
            quote_version=accepted.quote_version,
            revision_id=body.revision_id,
        )
        return order.answer(HTTPStatus.CREATED if accepted.is_new else HTTPStatus.OK, accepted.quote_version)

    return call.run(body, work, location="/orders/{orderId}")
