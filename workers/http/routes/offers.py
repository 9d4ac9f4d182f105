"""Approved quotes over HTTP: the document, and whether the customer accepts or declines."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from domain import accepting
from domain.offers import documents, reading, withdrawing
from domain.store import Answer, UnitOfWork
from workers.http.auth import BUYERS, SELLERS
from workers.http.calls import Call, Commanding, answer_with
from workers.http.document.responses import command_responses
from workers.http.preconditions import Precondition
from workers.http.routes.quotes import QuoteId
from workers.http.shapes import buyer_answers, quote_answers, quote_bodies

router = APIRouter(prefix="/quotes/{quoteId}", tags=["quotes"])


@router.post("/documents", status_code=201, responses=command_responses(quote_answers.ShownDocument, 201, "quote.document"))
def issue_document(
    call: Annotated[Call, Depends(Commanding("issue-document", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.IssueDocumentBody,
) -> JSONResponse:
    """Issue the document that the customer gets. The same revision and price give the same document."""

    def work(uow: UnitOfWork) -> Answer:
        command = body.command(quote_id, if_match.required())
        document = quote_answers.ShownDocument(
            document_id=documents.issue(uow, command),
            quote_id=quote_id,
            revision_id=body.revision_id,
            price_result_id=body.price_result_id,
        )
        return document.answer(HTTPStatus.CREATED, command.expected_version)

    return call.run(body, work)


@router.post(
    "/acceptances",
    status_code=201,
    responses=command_responses(
        quote_answers.ShownAcceptance, 201, "quote.accept", also_ok="The order of an identical acceptance that came first."
    ),
)
def accept_quote(
    call: Annotated[Call, Depends(Commanding("accept-quote", BUYERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.AcceptQuoteBody,
) -> JSONResponse:
    """Accept exactly the revision, price, approval and document that the customer saw. This creates the order."""

    def work(uow: UnitOfWork) -> Answer:
        accepted = accepting.accept(uow, body.command(quote_id, if_match.required()))
        order = quote_answers.ShownAcceptance(
            order_id=accepted.order.id,
            order_number=accepted.order.order_number,
            order_status=accepted.order.status,
            quote_id=quote_id,
            quote_version=accepted.quote_version,
            revision_id=body.revision_id,
        )
        return order.answer(HTTPStatus.CREATED if accepted.is_new else HTTPStatus.OK, accepted.quote_version)

    return call.run(body, work, location="/orders/{orderId}")


@router.post("/declines", status_code=201, responses=command_responses(buyer_answers.OfferedQuote, 201, "quote.decline"))
def decline_quote(
    call: Annotated[Call, Depends(Commanding("decline-quote", BUYERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.WithdrawBody,
) -> JSONResponse:
    """Decline the offer. The seller may revise it and offer it again."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.decline(uow, body.decline(quote_id, if_match.required()))
        return answer_with(buyer_answers.OfferedQuote.of(reading.quote(uow, quote_id)), HTTPStatus.CREATED)

    return call.run(body, work)
