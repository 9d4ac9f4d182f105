"""Error responses: every refusal becomes a problem document (RFC 9457) with its code and with what may safely be done next.

The rule: one table gives each kind of refusal its status. The code is the refusal's own, the same as in logs, metrics and BPMN. No response
contains SQL, a stack trace or a value of another tenant. See `docs/domain.md#refusals-logs-and-metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from domain.errors import (
    Conflict,
    DomainError,
    Forbidden,
    IdempotentRequestInProgress,
    Invalid,
    NotFound,
    OutcomeUnknownError,
    Refusal,
    SafeAction,
    TryAgain,
    UnknownTenantError,
)
from domain.store import Aggregate, table_of
from domain.store.base import camel

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://errors.example.com/"
RETRY_AFTER_SECONDS = "1"  # the transaction that has locked the row has ended by then
RETRY_AFTER_KEYS_SECONDS = "10"  # the keys are not asked for more often (`workers.http.signing_keys.REST`)

STATUS: dict[type[DomainError], HTTPStatus] = {
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Forbidden: HTTPStatus.FORBIDDEN,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnknownTenantError: HTTPStatus.NOT_FOUND,
    TryAgain: HTTPStatus.SERVICE_UNAVAILABLE,
    OutcomeUnknownError: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Kind of refusal -> HTTP status.

A stale version gets 409, not 412: RFC 9110 allows both, and a stale revision, price or approval gets 409 too.
"""
TITLES = {"QUOTE_VERSION_CONFLICT": "Quote has changed"}
"""Titles that are clearer than the ones made of their codes."""

_log = structlog.get_logger()


class RequestError(HTTPException):
    """A refusal of the edge itself, before any command runs; it has a code as the domain's refusals have."""

    status: ClassVar[HTTPStatus] = HTTPStatus.BAD_REQUEST
    code: ClassVar[str] = "REQUEST_INVALID"
    safe_action: ClassVar[SafeAction] = SafeAction.CORRECT_THE_REQUEST

    def __init__(self, detail: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(self.status, detail or (self.__doc__ or self.code).strip().splitlines()[0], headers)


class UnauthenticatedError(RequestError):
    """The caller is not known."""

    status, code = HTTPStatus.UNAUTHORIZED, "UNAUTHENTICATED"

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, {"WWW-Authenticate": "Bearer"})


class KeysUnreadableError(RequestError):
    """The keys that verify tokens cannot be read right now; nothing was changed."""

    status, code, safe_action = HTTPStatus.SERVICE_UNAVAILABLE, "SIGNING_KEYS_UNAVAILABLE", SafeAction.RETRY_WITH_SAME_KEY

    def __init__(self) -> None:
        super().__init__(headers={"Retry-After": RETRY_AFTER_KEYS_SECONDS})


class SignatureRefusedError(RequestError):
    """The callback's signature is missing, wrong or too old."""

    status, code = HTTPStatus.UNAUTHORIZED, "SIGNATURE_INVALID"


class UnknownProviderError(RequestError):
    """No such provider is configured."""

    status, code = HTTPStatus.NOT_FOUND, "NOT_FOUND"


class IdempotencyKeyMissingError(RequestError):
    """Send an Idempotency-Key with every command, and the same key with its repeats."""

    code = "IDEMPOTENCY_KEY_MISSING"


class IdempotencyKeyInvalidError(RequestError):
    """An Idempotency-Key must have 1 to 255 printable ASCII characters."""

    code = "IDEMPOTENCY_KEY_INVALID"


class PreconditionRequiredError(RequestError):
    """Send If-Match with the version that you have seen, in quotes."""

    status, code = HTTPStatus.PRECONDITION_REQUIRED, "PRECONDITION_REQUIRED"


class PreconditionInvalidError(RequestError):
    """If-Match must be one strong version in quotes; weak versions, lists and * are refused."""

    code = "PRECONDITION_INVALID"


class RepeatedHeaderError(RequestError):
    """A header that decides something comes more than once: send it once."""

    code = "HEADER_REPEATED"


class UnsupportedMediaTypeError(RequestError):
    """Send the body as application/json in UTF-8."""

    status, code = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE_UNSUPPORTED"


class BodyTooLargeError(RequestError):
    """The request's body is larger than this path accepts."""

    status, code = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE"


class BodyTooSlowError(RequestError):
    """The request's body did not arrive in time."""

    status, code, safe_action = HTTPStatus.REQUEST_TIMEOUT, "BODY_TOO_SLOW", SafeAction.RETRY_WITH_SAME_KEY

    def __init__(self) -> None:
        # The rest of the body may still arrive and must not be read as the next request (RFC 9110, section 15.5.9).
        super().__init__(headers={"Connection": "close"})


class ContradictoryLengthError(RequestError):
    """The request has both Content-Length and Transfer-Encoding: send one of them."""

    code = "LENGTH_CONTRADICTORY"

    def __init__(self) -> None:
        # Somebody before us may have ended the body elsewhere: what follows must not be read as the next request (RFC 9112, section 6.1).
        super().__init__(headers={"Connection": "close"})


class ClientHungUpError(RequestError):
    """The client has closed the connection before its request was complete."""


class TooManyRequestsError(RequestError):
    """You send too many requests: wait as many seconds as Retry-After says."""

    status, code, safe_action = HTTPStatus.TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS", SafeAction.RETRY_WITH_SAME_KEY


class UnreadableRequestError(RequestError):
    """The request cannot be read."""


class UnfitRequestError(RequestError):
    """The request does not have the form that this path accepts."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY


DETAILS = {("missing", "body"): "the request needs a JSON body: send {} at least"}
OTHER_CODES = {HTTPStatus.NOT_FOUND: "NOT_FOUND", HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED"}


def status_of(refusal: type[DomainError]) -> HTTPStatus:
    """The HTTP status of a refusal. Raises StopIteration for a class that has none."""
    return next(STATUS[kind] for kind in refusal.__mro__ if kind in STATUS)


def title_of(code: str) -> str:
    """A code as a title: STALE_PRICE -> Stale price."""
    return TITLES.get(code) or code.replace("_", " ").capitalize()


def id_member(aggregate_type: str) -> str:
    """The name of the member with an aggregate's id: quote -> quoteId, sales_order -> orderId."""
    known = {table_of(entity).name: entity.ID_FIELD for entity in Aggregate.__subclasses__()}
    return camel(known.get(aggregate_type, f"{aggregate_type}_id"))


def problem_of(error: DomainError) -> JSONResponse:
    """A domain refusal as its problem document."""
    wait = isinstance(error, TryAgain | OutcomeUnknownError | IdempotentRequestInProgress)
    return _problem(
        status_of(type(error)),
        error.code,
        str(error),
        error.safe_action,
        facts=_facts(error) if isinstance(error, Refusal) else {},
        headers={"Retry-After": RETRY_AFTER_SECONDS} if wait else {},
    )


def problem_of_request(error: RequestError) -> JSONResponse:
    """A refusal of the edge as its problem document."""
    return _problem(error.status, error.code, error.detail, error.safe_action, headers=dict(error.headers or {}))


def _facts(refusal: Refusal) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if refusal.aggregate_id is not None and refusal.aggregate_type is not None:
        facts[id_member(refusal.aggregate_type)] = str(refusal.aggregate_id)
    versions = {"expectedVersion": refusal.expected_version, "currentVersion": refusal.current_version}
    return facts | {name: value for name, value in versions.items() if value is not None}


def _problem(
    status: HTTPStatus,
    code: str,
    detail: str,
    safe_action: SafeAction,
    *,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    document = {
        "type": TYPE_BASE + code.lower().replace("_", "-"),
        "title": title_of(code),
        "status": int(status),
        "code": code,
        "detail": detail,
        **(facts or {}),
        "safeUserAction": safe_action,
    }
    return JSONResponse(document, int(status), {"Cache-Control": "no-store", **(headers or {})}, MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make the application answer every error with a problem document."""
    app.add_exception_handler(DomainError, _on_refusal)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)


def _on_refusal(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, DomainError)  # noqa: S101 - narrows the type of Starlette's signature
    return problem_of(error)


def _on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
    # The rejected value is left out: it may be anything, of any size.
    errors = [
        {"pointer": "/".join(map(str, found["loc"])), "detail": DETAILS.get((found["type"], *found["loc"]), str(found["msg"]))}
        for found in error.errors()[:20]
    ]
    detail = f"{errors[0]['pointer']}: {errors[0]['detail']}" if errors else str(UnfitRequestError.__doc__)
    return _problem(
        HTTPStatus.UNPROCESSABLE_ENTITY, RequestError.code, detail, SafeAction.CORRECT_THE_REQUEST, facts={"errors": errors}
    )


def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - as above
    if isinstance(error, RequestError):
        return problem_of_request(error)
    status = HTTPStatus(error.status_code)
    code, headers = OTHER_CODES.get(status, RequestError.code), dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_of(request))
    return _problem(status, code, error.detail, SafeAction.CORRECT_THE_REQUEST, headers=headers)


def _methods_of(request: Request) -> list[str]:
    """The methods of a path: Starlette names only those of the first route that has it."""
    app: FastAPI = request.app
    routes = [
        route for route in iter_route_contexts(app.routes) if route.path and compile_path(route.path)[0].match(request.url.path)
    ]
    return sorted({method for route in routes for method in route.methods or ()})


def _on_fault(request: Request, error: Exception) -> JSONResponse:
    _log.error("request_failed", method=request.method, path=request.url.path, exc_info=error)
    detail = "An error on our side stopped the request; nothing was changed. You may send the same request with the same key again later."
    return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", detail, SafeAction.RETRY_WITH_SAME_KEY)
