"""The HTTP process: the application behind uvicorn, in a thread, with an orderly stop.

The rule: the constructor opens the port, so that a port in use fails at once. `start` returns when requests are served, `stop` when those
in progress are answered.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from threading import Event, Thread

import structlog
import uvicorn
from sqlalchemy import Engine as Database

from workers.http.app import create_app
from workers.http.auth import Authenticate
from workers.http.limits import Limits
from workers.http.protocol import HeadLimit
from workers.runtime.callback_secrets import CallbackSecrets
from workers.runtime.listening import remedy_of, system_reason

# A platform sends SIGKILL 30 s after SIGTERM. The longest command takes three lock time-outs, which is less than this.
DRAIN_TIME = timedelta(seconds=20)
START_TIMEOUT = timedelta(seconds=10)
WATCH_INTERVAL = timedelta(seconds=1)
BACKLOG = 128

_log = structlog.get_logger()


class PortInUseError(Exception):
    """The port is in use or cannot be opened; the message says what to change."""


class ServerDiedError(Exception):
    """The server ended although nobody stopped it; its log says why."""


class HttpEdge:
    """The edge on a database; it listens on `host` and `port` (0 takes a free one). Raises PortInUseError."""

    def __init__(
        self,
        database: Database,
        *,
        authenticate: Authenticate,
        callback_secrets: Mapping[str, CallbackSecrets],
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        limits = limits or Limits()
        app = create_app(database, authenticate, callback_secrets, limits)
        self.authenticate = authenticate
        self._socket = _listen(host, port)
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                http=partial(HeadLimit, head_time=limits.head_time),  # type: ignore[arg-type]  # uvicorn only calls it
                timeout_keep_alive=int(limits.idle_time.total_seconds()),
                timeout_graceful_shutdown=int(DRAIN_TIME.total_seconds()),
            )
        )
        self._thread = Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> None:
        """Begin to serve. Raises ServerDiedError if no request is served in time."""
        self._thread.start()
        if not self._server.is_serving.wait(START_TIMEOUT.total_seconds()):
            raise ServerDiedError(f"the HTTP edge did not start within {START_TIMEOUT.total_seconds():.0f} s: see the errors above")
        _log.info("http_edge_started", address=self.address)

    def stop(self) -> None:
        """Take no more requests, answer those in progress, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        _log.info("http_edge_stopped", address=self.address)

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set. Raises ServerDiedError if the server ends before that."""
        self.start()
        try:
            while not stop.wait(WATCH_INTERVAL.total_seconds()):
                if not self._thread.is_alive():
                    raise ServerDiedError("the HTTP edge ended by itself: see the errors above")
        finally:
            self.stop()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_serving = Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_serving.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        raise PortInUseError(
            f"the HTTP edge cannot listen on {host}:{port} ({system_reason(error)}): {remedy_of(error, 'Q2O_HTTP_HOST', 'Q2O_HTTP_PORT')}"
        ) from error
    # asyncio sets this only for a socket that names its protocol. Without it, a body waits 40 ms until the client acknowledges the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
