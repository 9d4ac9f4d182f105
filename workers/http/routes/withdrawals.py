"""Withdrawals over HTTP: the seller recalls a quote from approval, or cancels it for good."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from domain.offers import withdrawing
from domain.store import Answer, UnitOfWork
from workers.http.auth import SELLERS
from workers.http.calls import Call, Commanding
from workers.http.document.responses import command_responses
from workers.http.preconditions import Precondition
from workers.http.routes.quotes import QuoteId, quote_as_it_stands
from workers.http.shapes import quote_answers, quote_bodies

router = APIRouter(prefix="/quotes/{quoteId}", tags=["quotes"])


@router.post("/recalls", status_code=201, responses=command_responses(quote_answers.ShownQuote, 201, "quote.recall"))
def recall_quote(
    call: Annotated[Call, Depends(Commanding("recall-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.WithdrawBody,
) -> JSONResponse:
    """Recall a revision from its approvers. The quote goes on with the next revision, which can be edited."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.recall(uow, body.recall(quote_id, if_match.required()))
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)


@router.post("/cancellations", status_code=201, responses=command_responses(quote_answers.ShownQuote, 201, "quote.cancel"))
def cancel_quote(
    call: Annotated[Call, Depends(Commanding("cancel-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: quote_bodies.WithdrawBody,
) -> JSONResponse:
    """Cancel a quote for good. Cancelling it again changes nothing."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.cancel(uow, body.cancellation(quote_id, if_match.required()))
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)
