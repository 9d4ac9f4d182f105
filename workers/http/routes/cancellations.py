"""The cancellation requests of an order, and its timeline, over HTTP."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from domain.delivery import cancelling, reading, timelines
from domain.store import Answer, UnitOfWork
from workers.http.auth import BUYERS, CASE_WORKERS, FULFILLERS, SELLERS
from workers.http.calls import Call, Commanding, Read, Reading, read_response
from workers.http.document.responses import command_responses, read_responses
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.routes.orders import OrderId
from workers.http.shapes import order_answers, order_bodies

router = APIRouter(tags=["orders"])
CANCELLERS = BUYERS | SELLERS | FULFILLERS


@router.post(
    "/orders/{orderId}/cancellations",
    status_code=201,
    responses=command_responses(order_answers.ShownCancellation, 201, "sales_order.request_cancel"),
)
def cancel_order(
    call: Annotated[Call, Depends(Commanding("cancel-order", CANCELLERS))],
    if_match: Precondition,
    order_id: OrderId,
    body: order_bodies.CancelOrderBody,
) -> JSONResponse:
    """Ask for the cancellation of an order. It is assessed first; the cancellation request shows how it ended."""

    def work(uow: UnitOfWork) -> Answer:
        request = cancelling.request(uow, body.command(order_id, if_match.required(), call.principal.subject))
        return Answer(status=HTTPStatus.CREATED, body=reading.cancellation(request), version=request.version)

    return call.run(body, work)


@router.post(
    "/cancellations/{cancellationId}/decisions",
    status_code=201,
    responses=command_responses(
        order_answers.ShownCancellation,
        201,
        "cancellation_request.decide",
        "cancellation_request.accept",
        "cancellation_request.decline",
    ),
)
def decide_cancellation(
    call: Annotated[Call, Depends(Commanding("decide-cancellation", FULFILLERS))],
    if_match: Precondition,
    cancellation_id: Annotated[UUID, Path(alias="cancellationId")],
    body: order_bodies.AssessCancellationBody,
) -> JSONResponse:
    """Decide on a cancellation that the rules leave to a person. It is declined in any case once the order is past its point of no return."""

    def work(uow: UnitOfWork) -> Answer:
        principal = call.principal
        assessment = body.command(cancellation_id, if_match.required(), principal.subject, principal.roles)
        decided = cancelling.decide_by_person(uow, assessment)
        return Answer(status=HTTPStatus.CREATED, body=reading.cancellation(decided), version=decided.version)

    return call.run(body, work)


@router.get("/orders/{orderId}/cancellations", responses=read_responses(order_answers.CancellationPage, of_one=True))
def list_cancellations(
    read: Annotated[Read, Depends(Reading(CANCELLERS | CASE_WORKERS))],
    order_id: OrderId,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List the cancellation requests of an order, with how each ended."""
    found = read.run(lambda uow: reading.cancellations_of(uow, order_id, limit + 1, after))
    return read_response(page(found, limit, "cancellationId"))


@router.get("/orders/{orderId}/timeline", responses=read_responses(order_answers.Timeline, of_one=True))
def read_timeline(read: Annotated[Read, Depends(Reading(SELLERS | CASE_WORKERS | FULFILLERS))], order_id: OrderId) -> JSONResponse:
    """Read everything that happened to an order, oldest first, with the time by our clock and by the provider's."""
    entries = read.run(lambda uow: timelines.timeline(uow, order_id))
    return read_response({"orderId": str(order_id), "entries": entries})
