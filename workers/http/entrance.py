"""Refuses a request for its form, before its route reads it: headers and parameters that come twice, unknown parameters, a body that is not JSON.

The rule: what comes twice has no meaning, because whoever stands before us may have looked at the other one. What is misspelt is refused: a
filter that nobody reads would list too much.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from inspect import isclass
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from workers.http.problems import RepeatedHeaderError, UnsupportedMediaTypeError, problem_of_request

SINGLE = (
    "authorization",
    "content-type",
    "idempotency-key",
    "if-match",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
)
# RFC 9110, 8.3.1: the type, and parameters, of which JSON has none of its own; a charset may say once more that it is UTF-8.
_JSON = re.compile(r'application/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?[ \t]*;?', re.IGNORECASE)
_CODING = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[ \t]*q[ \t]*=[ \t]*(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?", re.IGNORECASE
)


class SingleHeaders:
    """ASGI middleware that answers 400 to a header that comes more than once and must not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            repeated = [name for name in SINGLE if len(headers.getlist(name)) > 1]
            if repeated:
                refusal = RepeatedHeaderError(f"{repeated[0].title()} comes more than once: send it once.")
                await problem_of_request(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def require_json(headers: Mapping[str, str]) -> None:
    """Demand a body of JSON. Raises UnsupportedMediaTypeError."""
    if not _JSON.fullmatch(headers.get("content-type", "").strip(" \t")):
        raise UnsupportedMediaTypeError(headers={"Accept": "application/json"})


def require_known_parameters(request: Request) -> None:
    """Demand that each parameter in the address is one that the route has, and comes once. Raises RequestValidationError."""
    known = set(_parameters_of(request.scope["route"]))
    given = Counter(name for name, _ in request.query_params.multi_items())
    unknown = [_unfit(name, "there is no such parameter") for name in given if name not in known]
    repeated = [_unfit(name, "comes more than once: send it once") for name in given if name in known and given[name] > 1]
    if unknown or repeated:
        raise RequestValidationError([*unknown, *repeated])


def _parameters_of(route: APIRoute) -> Iterator[str | None]:
    for parameter in route.dependant.query_params:
        shape = parameter.field_info.annotation
        if isclass(shape) and issubclass(shape, BaseModel):
            yield from (field.alias for field in shape.model_fields.values())
        else:
            yield parameter.alias


def _unfit(name: str, why: str) -> dict[str, Any]:
    return {"type": "unfit", "loc": ("query", name), "msg": why}


class Compression:
    """ASGI middleware that compresses answers for those who accept it, weights included: `gzip;q=0` is a refusal (RFC 9110, 12.5.3)."""

    def __init__(self, app: ASGIApp, minimum_size: int, compresslevel: int) -> None:
        self._app = GZipMiddleware(app, minimum_size=minimum_size, compresslevel=compresslevel)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            # Starlette looks for the word alone.
            scope = {**scope, "headers": [*scope["headers"]]}
            headers = MutableHeaders(scope=scope)
            headers["accept-encoding"] = "gzip" if accepts_gzip(",".join(headers.getlist("accept-encoding"))) else "identity"
        await self._app(scope, receive, send)


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip: by its name, or else by `*`, with a weight above zero."""
    found = [_CODING.fullmatch(part) for part in accept_encoding.split(",")]
    weights = {coding[1].lower(): float(coding[2] or 1) for coding in found if coding}
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0
