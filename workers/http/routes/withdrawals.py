"""Offers that their seller takes back, over HTTP: from approval, or for good."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse

from domain.offers import withdrawing
from domain.store import Answer, UnitOfWork
from workers.http.auth import SELLERS
from workers.http.calls import Call, Commanding
from workers.http.document.responses import described_command
from workers.http.preconditions import Precondition
from workers.http.routes.quotes import QuoteId, quote_as_it_stands
from workers.http.shapes import answers, bodies

router = APIRouter(prefix="/quotes/{quoteId}", tags=["quotes"])


@router.post("/recalls", status_code=201, responses=described_command(answers.ShownQuote, 201, "quote.recall"))
def recall_quote(
    call: Annotated[Call, Depends(Commanding("recall-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.WithdrawBody,
) -> JSONResponse:
    """Take a revision back from its approvers; it goes on as the next, editable one."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.recall(
            uow,
            withdrawing.RecallQuote(
                quote_id=quote_id,
                expected_version=if_match.required(),
                revision_id=body.revision_id,
                reason_code=body.reason_code,
            ),
        )
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)


@router.post("/cancellations", status_code=201, responses=described_command(answers.ShownQuote, 201, "quote.cancel"))
def cancel_quote(
    call: Annotated[Call, Depends(Commanding("cancel-quote", SELLERS))],
    if_match: Precondition,
    quote_id: QuoteId,
    body: bodies.WithdrawBody,
) -> JSONResponse:
    """Give the offer up for good; giving up a cancelled one changes nothing."""

    def work(uow: UnitOfWork) -> Answer:
        withdrawing.cancel(
            uow,
            withdrawing.CancelQuote(
                quote_id=quote_id,
                expected_version=if_match.required(),
                revision_id=body.revision_id,
                reason_code=body.reason_code,
            ),
        )
        return quote_as_it_stands(uow, quote_id, HTTPStatus.CREATED)

    return call.run(body, work)
