"""The HTTP process: the application behind uvicorn, in a thread, with a clean end.

The rule: the port is taken when the edge is made, so a taken one is told at once; `start` returns when requests are served, `stop` when
those that were being served are answered.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from threading import Event, Thread

import structlog
import uvicorn
from sqlalchemy import Engine

from workers.http.app import create_app
from workers.http.limits import Limits

# A platform sends SIGKILL 30 s after SIGTERM; the longest command (three lock time-outs) is done before.
DRAIN_TIME = timedelta(seconds=20)
START_TIMEOUT = timedelta(seconds=10)
WATCH_INTERVAL = timedelta(seconds=1)
BACKLOG = 128

_log = structlog.get_logger()


class PortInUseError(Exception):
    """The address cannot be listened on; the message says what to change."""


class ServerDiedError(Exception):
    """The server ended without being told to; its log says why."""


class HttpEdge:
    """The edge on a database, on `host` and `port` (0 takes a free one).

    Raises PortInUseError, and ValueError if the JWT secret is too short.
    """

    def __init__(
        self,
        database: Engine,
        *,
        jwt_secret: str,
        callback_secrets: Mapping[str, Sequence[str]],
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
    ) -> None:
        app = create_app(database, jwt_secret, callback_secrets, limits)
        self._socket = _listen(host, port)
        self.address = f"http://{host}:{self._socket.getsockname()[1]}"
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=int(DRAIN_TIME.total_seconds()),
            )
        )
        self._thread = Thread(target=self._server.run, args=([self._socket],), name="http", daemon=True)

    def start(self) -> None:
        """Serve. Raises ServerDiedError if that does not begin in time."""
        self._thread.start()
        if not self._server.is_serving.wait(START_TIMEOUT.total_seconds()):
            raise ServerDiedError(f"the HTTP edge did not start within {START_TIMEOUT.total_seconds():.0f} s: see the errors above")
        _log.info("http_edge_started", address=self.address)

    def stop(self) -> None:
        """Take no more requests, answer those that are being served, and end."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        _log.info("http_edge_stopped", address=self.address)

    def run(self, stop: Event) -> None:
        """Serve until `stop` is set. Raises ServerDiedError when the server ends before."""
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
            f"the HTTP edge cannot listen on {host}:{port} ({error.strerror}): set Q2O_HTTP_PORT to a free port"
        ) from error
    # asyncio sees to it only where a socket names its protocol: without it, an answer's body waits 40 ms for its head to be acknowledged.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
