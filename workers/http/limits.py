"""Limits: how large a body may be, in which encoding it comes, how long it may take to arrive, and how many requests a tenant may send (OWASP API4:2023).

The rule: what exceeds a limit is refused before it fills memory, occupies a connection, or makes other tenants wait. Each process counts
for itself.
"""

from __future__ import annotations

import asyncio
import codecs
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.http.problems import (
    BodyTooLargeError,
    BodyTooSlowError,
    TooManyRequestsError,
    UnreadableRequestError,
    problem_of_request,
)

LARGEST_BODY_BYTES = 1024 * 1024  # a quote with two hundred lines has some 30 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """A body arrives within `body_time`; each tenant sends `rate` requests a second on average, and `burst` at once."""

    body_time: timedelta = timedelta(seconds=20)  # for the largest body this is half a megabit a second
    rate: float = 500  # more than one process can serve: a tenant that is alone may use all of it
    burst: int = 1000


class BodyLimit:
    """ASGI middleware that answers 413 to a body that is too large, 408 to one that is too slow, and 400 to one that is not UTF-8.

    An announced length is refused at once, any other as soon as it is exceeded. The time counts for the whole body: one that comes byte by
    byte makes progress, and occupies its connection all the same.
    """

    def __init__(self, app: ASGIApp, body_time: timedelta, largest: int = LARGEST_BODY_BYTES) -> None:
        self._app = app
        self._seconds = body_time.total_seconds()
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._largest:
            await problem_of_request(BodyTooLargeError())(scope, receive, send)
            return
        received, has_more = 0, True
        decoder = codecs.getincrementaldecoder("utf-8")()
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def counted() -> Message:
            nonlocal received, has_more
            if not has_more:  # the application now waits for the client to disconnect, which may take any time
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise BodyTooSlowError from None
            received += len(message.get("body", b""))
            has_more = message.get("more_body", False)
            if received > self._largest:
                raise BodyTooLargeError
            if message["type"] == "http.request":
                _must_be_utf8(decoder, message.get("body", b""), is_last=not has_more)
            return message

        await self._app(scope, counted, send)


def _must_be_utf8(decoder: codecs.IncrementalDecoder, chunk: bytes, *, is_last: bool) -> None:
    """Raises UnreadableRequestError. JSON in UTF-8 has no NUL; in UTF-16 it has, and Python's parser would read it all the same."""
    try:
        is_utf8 = "\0" not in decoder.decode(chunk, is_last)
    except UnicodeDecodeError:
        is_utf8 = False
    if not is_utf8:
        raise UnreadableRequestError("The body is not UTF-8 text: send JSON in UTF-8, and a NUL not at all.")


class RateLimit:
    """ASGI middleware that answers 429 to a tenant whose bucket of tokens is empty.

    Authentication comes first and proves the tenant, so nobody can fill the memory with buckets of invented tenants.
    """

    def __init__(self, app: ASGIApp, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._rate = limits.rate
        self._burst = limits.burst
        self._clock = clock
        self._buckets: dict[UUID, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = scope.get("state", {}).get("principal")
        wait = self._take(principal.tenant_id) if principal is not None else 0.0
        if wait:
            refusal = TooManyRequestsError(headers={"Retry-After": str(math.ceil(wait))})
            await problem_of_request(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _take(self, tenant_id: UUID) -> float:
        """Take a token; returns 0, or the seconds until there is one."""
        now = self._clock()
        tokens, since = self._buckets.get(tenant_id, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        taken = tokens >= 1
        self._buckets[tenant_id] = (tokens - taken, now)
        return 0.0 if taken else (1 - tokens) / self._rate
