"""Limits: how large a body may be, in which encoding it comes, how long it may take to arrive, and how many requests a tenant may send (OWASP API4:2023).

The rule: what exceeds a limit is refused before it fills memory, occupies a connection, or makes other tenants wait. Each process counts
for itself.
"""

from __future__ import annotations

import asyncio
import codecs
import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import ClassVar

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.http.problems import (
    BodyTooLargeError,
    BodyTooSlowError,
    ClientHungUpError,
    ContradictoryLengthError,
    TooManyRequestsError,
    UnreadableRequestError,
    problem_of_request,
)

LARGEST_BODY_BYTES = 1024 * 1024  # a quote with two hundred lines has some 30 kB

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The head of a request arrives within `head_time` and its body within `body_time`; each tenant sends `rate` requests a second on
    average, and `burst` at once. A connection without a request is kept for `idle_time`, in whole seconds.
    """

    head_time: timedelta = timedelta(seconds=10)  # a head has some hundred bytes and comes in one packet
    body_time: timedelta = timedelta(seconds=20)  # for the largest body this is half a megabit a second
    # Longer than most proxies keep an idle connection (60 s by default): who sends a command while the edge closes the connection does not
    # learn its outcome.
    idle_time: timedelta = timedelta(seconds=75)
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
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if announced and "transfer-encoding" in headers:
            await problem_of_request(ContradictoryLengthError())(scope, receive, send)
            return
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
            if message["type"] == "http.disconnect":
                _log.info("client_hung_up", method=scope["method"], path=scope["path"], receivedBytes=received)
                raise ClientHungUpError
            received += len(message.get("body", b""))
            has_more = message.get("more_body", False)
            if received > self._largest:
                raise BodyTooLargeError
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


class Rates:
    """A bucket of tokens for each sender who has proved who they are, and one for all the others.

    So nobody fills the memory with buckets of invented senders, and a stranger takes nothing from anybody's bucket.
    """

    STRANGERS: ClassVar[Hashable] = object()  # equal to no name

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = limits.rate
        self._burst = limits.burst
        self._clock = clock
        self._buckets: dict[Hashable, tuple[float, float]] = {}
        self._lock = Lock()  # middleware runs in the event loop, routes in threads

    def count(self, sender: Hashable) -> None:
        """Take a token of this sender. Raises TooManyRequestsError when there is none."""
        with self._lock:
            now = self._clock()
            tokens, since = self._buckets.get(sender, (float(self._burst), now))
            tokens = min(self._burst, tokens + (now - since) * self._rate)
            taken = tokens >= 1
            self._buckets[sender] = (tokens - taken, now)
        if not taken:
            raise TooManyRequestsError(headers={"Retry-After": str(math.ceil((1 - tokens) / self._rate))})


class RateLimit:
    """ASGI middleware that answers 429 to a tenant whose bucket is empty. Authentication comes first and proves the tenant.

    Callbacks have no tenant yet: their route counts them, after it has looked at the signature.
    """

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self._app = app
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = scope.get("state", {}).get("principal")
        try:
            if principal is not None:
                self._rates.count(principal.tenant_id)
        except TooManyRequestsError as refusal:
            await problem_of_request(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)
