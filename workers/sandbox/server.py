"""An HTTP server in a thread that can also cut a connection: on a real socket, so that a lost reply looks to the client as it does in production.

The rule: `start` returns when the port accepts connections, `stop` when no connection is open any more.
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

from workers.runtime.listening import remedy_of, system_reason

_CUT = "q2o.cut_connection"
_START_SECONDS = 10.0


class CutConnection(Response):
    """Cuts the connection in place of a reply. Works only under a ServerThread, which passes the way to cut it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - this response sends nothing
        cast("Callable[[], None]", scope[_CUT])()
        # Wait until the server has noticed the end; otherwise it would send a 500, because the application has sent nothing.
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
    """The server cannot start. The message says what to change."""


class ServerThread:
    """Serves an application on `host` and `port` (0: any free one). The attribute `port` is set before the start.

    Raises ServerStartError if it cannot listen on the port.
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
        """Serve. Raises ServerStartError if the server is not ready in time."""
        self._thread.start()
        if not self._server.is_ready.wait(_START_SECONDS):
            raise ServerStartError(
                f"the sandbox provider did not start within {_START_SECONDS:.0f} s: see the errors before this line"
            )

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = _resolve(host, port)
    # The protocol is given, although 0 would work too: asyncio turns off Nagle's delay (40 ms per reply) only for sockets that name TCP.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServerStartError(
            f"the sandbox provider cannot listen on {host}:{port} ({system_reason(error)}): {remedy_of(error, 'the host', 'the port')}"
        ) from error
    return listener


def _resolve(host: str, port: int) -> tuple[Any, ...]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise ServerStartError(
            f"the sandbox provider cannot resolve the host {host} ({error.strerror}): choose another host"
        ) from error
