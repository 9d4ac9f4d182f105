"""How much a request may carry: more is refused before it fills memory."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workers.http.problems import BodyTooLargeError, problem_of_request

LARGEST_BODY_BYTES = 1024 * 1024  # two hundred lines are some 30 kB


class BodyLimit:
    """ASGI middleware: 413 at once when the length is announced, and as soon as it is passed when it is not."""

    def __init__(self, app: ASGIApp, largest: int = LARGEST_BODY_BYTES) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
        if announced.isdecimal() and int(announced) > self._largest:
            await problem_of_request(BodyTooLargeError())(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise BodyTooLargeError
            return message

        await self._app(scope, counted, send)
