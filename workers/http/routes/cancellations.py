"""Orders that are to be cancelled, and everything that happened to one, over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from domain.delivery import cancelling, reading, timelines
from domain.store import Answer, UnitOfWork
from workers.http.auth import BUYERS, CASE_WORKERS, FULFILLERS, SELLERS
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.shapes import bodies, order_answers

router = APIRouter(prefix="/orders/{orderId}", tags=["orders"])
OrderId = Annotated[UUID, Path(alias="orderId")]
CANCELLERS = BUYERS | SELLERS | FULFILLERS


@router.post(
    "/cancellations",
    status_code=201,
    responses=described_command(order_answers.ShownCancellation, 201, "sales_order.request_cancel"),
)
def cancel_order(
    call: Annotated[Call, Depends(Commanding("cancel-order", CANCELLERS))],
    if_match: Precondition,
    order_id: OrderId,
    body: bodies.CancelOrderBody,
) -> JSONResponse:
    """Ask that the order be cancelled. It is assessed first; how it ends is told by the request."""

    def work(uow: UnitOfWork) -> Answer:
        command = cancelling.RequestCancellation(
            order_id=order_id,
            expected_version=if_match.required(),
            expected_status=body.expected_status,
            reason=body.reason,
            requested_by=call.principal.subject,
        )
        asked = cancelling.request(uow, command)
        return Answer(status=HTTPStatus.CREATED, body=reading.cancellation(asked), version=asked.version)

    return call.run(body, work)


@router.get("/cancellations", responses=described_read(order_answers.CancellationPage, of_one=True))
def list_cancellations(
    looking: Annotated[Look, Depends(Looking(CANCELLERS | CASE_WORKERS))],
    order_id: OrderId,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List the cancellation requests of an order, and how they ended."""
    found = looking.at(lambda uow: reading.cancellations_of(uow, order_id, limit + 1, after))
    return shown(page(found, limit, "cancellationId"))


@router.get("/timeline", responses=described_read(order_answers.Timeline, of_one=True))
def read_timeline(
    looking: Annotated[Look, Depends(Looking(SELLERS | CASE_WORKERS | FULFILLERS))], order_id: OrderId
) -> JSONResponse:
    """Tell everything that happened to an order, in order, by our clock and by the providers'."""
    entries = looking.at(lambda uow: timelines.timeline(uow, order_id))
    return shown({"orderId": str(order_id), "entries": entries})
