"""An offer that is ready, over HTTP: write it down, and the customer's answer to it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from domain import accepting
from domain.offers import documents, reading, withdrawing
from domain.store import Answer, UnitOfWork
from workers.http.auth import BUYERS, SELLERS
from workers.http.calls import Call, Commanding
from workers.http.document.responses import described_command
from workers.http.preconditions import Precondition
from workers.http.routes.quotes import QuoteId
from workers.http.shapes import answers, bodies, quote_answers

router = APIRouter(prefix="/quotes/{quoteId}", tags=["quotes"])


@router.post("/documents", status_code=201, responses=described_command(answers.ShownDocument, 201, "quote.document"))
def issue_document(
    call: Annotated[Call, Depends(Commanding("issue-document", SELLERS))],
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
    "/acceptances",
    status_code=201,
    responses=described_command(
        answers.ShownAcceptance, 201, "quote.accept", also_ok="The same order: an identical acceptance came first."
    ),
)
def accept_quote(
    call: Annotated[Call, Depends(Commanding("accept-quote", BUYERS))],
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


@router.post("/declines", status_code=201, responses=described_command(quote_answers.OfferedQuote, 201, "quote.decline"))
def decline_quote(
    call: Annotated[Call, Depends(Commanding("decline-quote", BUYERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.WithdrawBody,
) -> JSONResponse:
    """Say no to the offer; the seller may make another one of it."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.decline(
            uow,
            withdrawing.DeclineQuote(
                quote_id=quote_id,
                expected_version=if_match.required(),
                revision_id=body.revision_id,
                reason_code=body.reason_code,
            ),
        )
        declined = quote_answers.OfferedQuote.of(reading.quote(uow, quote_id))
        return Answer(status=HTTPStatus.CREATED, body=declined, version=declined["version"])

    return call.run(body, work)
