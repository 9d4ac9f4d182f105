"""The HTTP interface of the sandbox provider: requests, questions about requests, the ledger and the faults.

The rule: the ledger decides what the provider does. This module only sends the reply, delays it, or loses it.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from typing import Annotated, Any, Literal

import structlog
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from starlette.responses import HTMLResponse, JSONResponse, Response

from workers.sandbox.cancellations import RequestUnknownError
from workers.sandbox.faults import Fault, FaultKind, Faults
from workers.sandbox.ledger import STATUS_CODE, KeyReusedError, Ledger, RequestStatus, ServiceRequest
from workers.sandbox.server import CutConnection

log = structlog.get_logger(__name__)

_Key = Annotated[str, Field(min_length=1, max_length=200)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Body(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class RequestBody(_Body):
    """The body of a request to carry out a step."""

    step_ref: _Name
    step_code: _Name
    product_offering_id: _Name
    quantity: Annotated[int, Field(ge=1, le=1_000_000)]
    order_ref: _Name
    compensates: _Key | None = None
    instructions: _Name | None = None


class CancellationBody(_Body):
    """The body of a request to cancel an earlier request."""

    step_ref: _Name
    request_key: _Key


class EventBody(_Body):
    """A callback to send about a request, by hand. The ledger does not change, so the callback may be untrue."""

    idempotency_key: _Key
    event_type: Literal["step.accepted", "step.completed", "step.rejected", "step.cancelled", "step.cancel_refused"]


class FaultBody(_Body):
    """The order of a fault. `seconds` matters for hold_answer, delay_callback and cancel_later only."""

    kind: FaultKind
    step_code: _Name | None = None
    times: Annotated[int, Field(ge=1, le=1000)] = 1
    seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routes:
    """The handlers of the routes. `stopping` ends the pauses before delayed replies."""

    ledger: Ledger
    faults: Faults
    token: str | None
    stopping: threading.Event

    def authorize(self, authorization: Annotated[str, Header()] = "") -> None:
        scheme, _, given = authorization.partition(" ")
        is_known = given != "" if self.token is None else secrets.compare_digest(given.encode(), self.token.encode())
        if scheme.lower() != "bearer" or not is_known:
            raise HTTPException(401, "this request needs a valid bearer token")

    def submit(self, body: RequestBody, idempotency_key: Annotated[_Key, Header()]) -> Response:
        try:
            reply = self.ledger.receive(idempotency_key, ServiceRequest(**body.model_dump()))
        except KeyReusedError as error:
            return _problem(409, "IDEMPOTENCY_KEY_REUSED", str(error))
        log.info("sandbox_request_answered", idempotencyKey=idempotency_key, status=reply.status_code, lost=reply.is_lost)
        self.stopping.wait(reply.pause.total_seconds())
        return CutConnection() if reply.is_lost else JSONResponse(dict(reply.body), reply.status_code)

    def cancel(self, body: CancellationBody, idempotency_key: Annotated[_Key, Header()]) -> Response:
        try:
            reply = self.ledger.cancel(idempotency_key, body.request_key)
        except RequestUnknownError as error:
            return _problem(404, "REQUEST_UNKNOWN", str(error))
        return JSONResponse(dict(reply), STATUS_CODE[RequestStatus(reply["status"])])

    def find(self, idempotency_key: Annotated[_Key, Query(alias="idempotencyKey")]) -> Response:
        found = self.ledger.find(idempotency_key)
        if found is None:
            return _problem(404, "REQUEST_UNKNOWN", f"{idempotency_key} never arrived here")
        return JSONResponse(dict(found))

    def list_ledger(self) -> list[dict[str, str | int]]:
        return self.ledger.entries()

    def send_event(self, body: EventBody) -> Response:
        try:
            event_id = self.ledger.say(body.idempotency_key, body.event_type)
        except RequestUnknownError as error:
            return _problem(404, "REQUEST_UNKNOWN", str(error))
        return JSONResponse({"eventId": event_id}, 201)

    def add_fault(self, body: FaultBody) -> dict[str, Any]:
        duration = timedelta(seconds=body.seconds)
        return _fault(self.faults.add(body.kind, times=body.times, step_code=body.step_code, duration=duration))

    def list_faults(self) -> list[dict[str, Any]]:
        return [_fault(fault) for fault in self.faults.all()]

    def clear_faults(self) -> None:
        self.faults.clear()

    def show(self) -> Response:
        # The page contains its script and style, and must not load anything else.
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
        return HTMLResponse(
            files("workers.sandbox").joinpath("page.html").read_text("utf-8"), headers={"Content-Security-Policy": policy}
        )


def create_app(ledger: Ledger, faults: Faults, *, token: str | None = None, stopping: threading.Event | None = None) -> FastAPI:
    """Build the application. Without `token` it accepts any bearer token."""
    routes = _Routes(ledger=ledger, faults=faults, token=token, stopping=stopping or threading.Event())
    app = FastAPI(title="Sandbox provider", docs_url=None, redoc_url=None)
    authorized = [Depends(routes.authorize)]
    app.add_api_route("/v1/requests", routes.submit, methods=["POST"], dependencies=authorized, response_model=None)
    app.add_api_route("/v1/cancellations", routes.cancel, methods=["POST"], dependencies=authorized, response_model=None)
    app.add_api_route("/v1/requests", routes.find, methods=["GET"], dependencies=authorized, response_model=None)
    app.add_api_route("/sandbox/ledger", routes.list_ledger, methods=["GET"])
    app.add_api_route("/sandbox/events", routes.send_event, methods=["POST"], status_code=201, response_model=None)
    app.add_api_route("/sandbox/faults", routes.add_fault, methods=["POST"], status_code=201)
    app.add_api_route("/sandbox/faults", routes.list_faults, methods=["GET"])
    app.add_api_route("/sandbox/faults", routes.clear_faults, methods=["DELETE"], status_code=204)
    app.add_api_route("/", routes.show, methods=["GET"], include_in_schema=False, response_model=None)
    app.add_exception_handler(RequestValidationError, _malformed)
    return app


def _malformed(_request: Request, error: Exception) -> Response:
    """400 for a malformed request: this provider uses 422 for a request that it understands and rejects."""
    detail = (
        "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
        if isinstance(error, RequestValidationError)
        else ""
    )
    return _problem(400, "REQUEST_MALFORMED", detail)


def _problem(status: int, code: str, detail: str) -> Response:
    content = {"type": "about:blank", "status": status, "code": code, "detail": detail}
    return JSONResponse(content, status, media_type="application/problem+json")


def _fault(fault: Fault) -> dict[str, Any]:
    return {
        "id": fault.fault_id,
        "kind": fault.kind,
        "stepCode": fault.step_code,
        "times": fault.times,
        "remaining": fault.remaining,
        "seconds": fault.seconds,
    }
