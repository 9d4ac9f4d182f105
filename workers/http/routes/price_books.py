"""Price books over HTTP: publish a version, and read the active one."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from domain.errors import Invalid
from domain.offers import price_books, reading
from domain.offers.price_books import PriceBookVersionExists
from domain.store import Answer, UnitOfWork
from workers.http.auth import PRICERS
from workers.http.calls import Call, Commanding, Read, Reading, answer_with, read_response
from workers.http.document.responses import command_responses, read_responses
from workers.http.shapes import quote_answers, quote_bodies
from workers.http.shapes.fields import Text

router = APIRouter(prefix="/price-books/{priceBookId}", tags=["price books"])

PriceBookId = Annotated[Text, Path(alias="priceBookId")]


@router.get("", responses=read_responses(quote_answers.ShownPriceBook, has_version=True))
def read_price_book(read: Annotated[Read, Depends(Reading(PRICERS))], price_book: PriceBookId) -> JSONResponse:
    """Read the active version of a price book, with its costs."""
    return read_response(read.run(lambda uow: reading.price_book(uow, price_book)))


@router.post(
    "/publications",
    status_code=201,
    responses=command_responses(
        quote_answers.ShownPriceBook, 201, "price_book_head.publish", refusals=(PriceBookVersionExists, Invalid), versioned=False
    ),
)
def publish_price_book(
    call: Annotated[Call, Depends(Commanding("publish-price-book", PRICERS))],
    price_book: PriceBookId,
    body: quote_bodies.PublishBody,
) -> JSONResponse:
    """Make these prices the active version. The staleness policy of an older price result says whether it still counts."""

    def work(uow: UnitOfWork) -> Answer:
        price_books.publish(uow, body.command(price_book))
        return answer_with(reading.price_book(uow, price_book), HTTPStatus.CREATED)

    return call.run(body, work, location="/price-books/{priceBook}")
