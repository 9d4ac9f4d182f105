"""Price books over HTTP: publish a version, read the one that counts now."""

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
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.shapes import answers, bodies

router = APIRouter(prefix="/price-books/{priceBookId}", tags=["price books"])

PriceBookId = Annotated[str, Path(alias="priceBookId", min_length=1, max_length=200, pattern=r"^[^\x00]+$")]


@router.get("", responses=described_read(answers.ShownPriceBook, has_version=True))
def read_price_book(looking: Annotated[Look, Depends(Looking(PRICERS))], price_book: PriceBookId) -> JSONResponse:
    """Read the active version of a price book, costs included."""
    return shown(looking.at(lambda uow: reading.price_book(uow, price_book)))


@router.post(
    "/publications",
    status_code=201,
    responses=described_command(
        answers.ShownPriceBook, 201, "price_book_head.publish", refusals=(PriceBookVersionExists, Invalid), versioned=False
    ),
)
def publish_price_book(
    call: Annotated[Call, Depends(Commanding("publish-price-book", PRICERS))], price_book: PriceBookId, body: bodies.PublishBody
) -> JSONResponse:
    """Make these prices the active version; what older quotes make of it is up to their staleness policy."""

    def work(uow: UnitOfWork) -> Answer:
        price_books.publish(
            uow,
            price_books.PublishPriceBook(
                price_book=price_book,
                expected_active_version=body.expected_active_version,
                price_book_version=body.price_book_version,
                entries={entry.product_offering_id: (entry.list_price, entry.unit_cost) for entry in body.entries},
                material_offering_ids=body.material_offering_ids,
            ),
        )
        published = reading.price_book(uow, price_book)
        return Answer(status=HTTPStatus.CREATED, body=published, version=published["version"])

    return call.run(body, work, location="/price-books/{priceBook}")
