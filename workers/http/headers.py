"""Headers that every answer needs: what a browser must not do with it, and an entity tag that tells encodings apart.

The rules: JSON is never shown as a page, framed, or guessed to be something else (OWASP REST Security Cheat Sheet); a browser that came by TLS
comes by TLS again (RFC 6797). A strong entity tag names bytes, so the compressed form of version 17 has a tag of its own, `"17-gzip"` (RFC 9110,
section 8.8.3.3); both name version 17 in If-Match.
"""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OF_EVERY_ANSWER = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
# A year, as the preload lists of browsers ask at least; only after TLS, because browsers ignore it otherwise.
HSTS = "max-age=31536000"
GZIPPED = "-gzip"
BLANKS = " \t"
"""What may stand around the value of a header; Python would strip the blanks of other scripts as well."""


class AnswerHeaders:
    """ASGI middleware around the compression: it sees the encoding of each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def completed(message: Message) -> None:
            if message["type"] == "http.response.start":
                _complete(MutableHeaders(scope=message), is_encrypted=scope["scheme"] == "https")
            await send(message)

        await self._app(scope, receive, completed)


def _complete(headers: MutableHeaders, *, is_encrypted: bool) -> None:
    for name, value in OF_EVERY_ANSWER.items():
        headers.setdefault(name, value)
    if is_encrypted:
        headers.setdefault("Strict-Transport-Security", HSTS)
    if "etag" in headers and headers.get("content-encoding") == "gzip":
        headers["etag"] = f'{headers["etag"][:-1]}{GZIPPED}"'
