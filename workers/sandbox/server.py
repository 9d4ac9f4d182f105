"""An HTTP server in a thread that can also break off: real sockets, so that a lost answer is lost as in the wild.

The rule: `start` returns when connections are accepted, `stop` when none is left.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_CUT = "q2o.cut_connection"
_START_SECONDS = 10.0


class CutConnection(Response):
    """In place of an answer, the end of the connection; only under a ServerThread, which knows the socket."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - nothing is sent, that is the point
        cast("Callable[[], None]", scope[_CUT])()
        # The server must have noticed the end, else it would answer 500 on behalf of an application that said nothing.
        while (await receive())["type"] != "http.disconnect":
            continue


class _CuttableProtocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it so itself
        super().connection_made(transport)
        inner: Any = self.app

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await cast("ASGIApp", inner)({**scope, _CUT: transport.abort}, receive, send)

        self.app = app


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_ready.set()


class ServerStartError(Exception):
    """The server cannot serve; the message says what to change."""


class ServerThread:
    """Serves an application on `host` and `port` (0 takes a free one); the port is known before the start.

    Raises ServerStartError if the port cannot be had.
    """

    def __init__(self, app: FastAPI, host: str, port: int) -> None:
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        self._server = _Server(
            uvicorn.Config(
                app, http=_CuttableProtocol, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=2
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="sandbox-http", daemon=True)

    def start(self) -> None:
        """Serve; raises ServerStartError if the server does not come up."""
        self._thread.start()
        if not self._server.is_ready.wait(_START_SECONDS):
            raise ServerStartError(f"the sandbox provider did not start within {_START_SECONDS:.0f} s: see the errors above")

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = _resolve(host, port)
    # The protocol is named although 0 would do: asyncio switches Nagle's delay (40 ms an answer) off only for what is called TCP.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServerStartError(
            f"the sandbox provider cannot listen on {host}:{port} ({error.strerror}): choose another port"
        ) from error
    return listener


def _resolve(host: str, port: int) -> tuple[Any, ...]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ServerStartError(
            f"the sandbox provider does not know the host {host} ({error.strerror}): give another one"
        ) from error
