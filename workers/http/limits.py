"""How much a request may carry, how long it may take to arrive, and how many of them a tenant may send (OWASP API4:2023).

More is refused before it fills memory, holds a connection, or keeps other tenants waiting. The counts are of this process alone.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.http.problems import BodyTooLargeError, BodyTooSlowError, TooManyRequestsError, problem_of_request

LARGEST_BODY_BYTES = 1024 * 1024  # two hundred lines are some 30 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the edge takes: a body within `body_time`; of each tenant `rate` requests a second in the long run, and `burst` at once."""

    body_time: timedelta = timedelta(seconds=20)  # for the largest body that is half a megabit a second
    rate: float = 500  # more than one process serves; a tenant alone may have it all
    burst: int = 1000


class BodyLimit:
    """ASGI middleware: 413 at once when the length is announced, and as soon as it is passed when it is not; 408 when it takes too long.

    The time counts for the whole body: one that comes byte by byte makes progress, and holds its connection all the same.
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
        deadline = asyncio.get_running_loop().time() + self._seconds

        async def counted() -> Message:
            nonlocal received, has_more
            if not has_more:  # whoever waits now waits for the end of the connection
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
            return message

        await self._app(scope, counted, send)


class RateLimit:
    """ASGI middleware: 429 for a tenant whose bucket of tokens is empty. Stands behind the authentication, which proves the tenant.

    So there are as many buckets as tenants that were issued tokens, and nobody can fill the memory with made-up ones.
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
        """Take a token; returns the seconds until there is one when there is none."""
        now = self._clock()
        tokens, since = self._buckets.get(tenant_id, (float(self._burst), now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        taken = tokens >= 1
        self._buckets[tenant_id] = (tokens - taken, now)
        return 0.0 if taken else (1 - tokens) / self._rate
