"""A time budget for a whole HTTP call, however slowly the other side sends its bytes.

The time-outs of an HTTP client bound each single read, so a server that sends one byte at a time could keep a worker for ever. Here every
wait on the socket ends with the budget of the call. Only the look-up of a host name is not bounded: the system offers no time limit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from domain.retry_rules import PROVIDER_NOT_SENT

_SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBudget:
    """Limits of one call: time to connect, time in all, size of the response.

    `idle`: how long an unused connection may be used again. A server that closes it in the same moment (many do after five seconds) would
    make the outcome of a good call unknown.
    """

    connect: timedelta = timedelta(seconds=2)
    total: timedelta = PROVIDER_NOT_SENT.call
    response_bytes: int = 64 * 1024
    idle: timedelta = timedelta(seconds=2)


class BudgetTransport(httpx.BaseTransport):
    """An httpx transport that keeps a CallBudget; the response is read in full before it is handed on.

    Raises the errors of httpx: time-outs when the budget is spent, RemoteProtocolError when the response is too long.
    """

    def __init__(self, budget: CallBudget, ssl_context: SSLContext) -> None:
        self._budget = budget
        self._call = _Call()
        self._pool = httpcore.ConnectionPool(
            ssl_context=ssl_context,
            max_connections=32,
            keepalive_expiry=budget.idle.total_seconds(),
            network_backend=_BudgetBackend(self._call),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._call.ends_at = time.monotonic() + self._budget.total.total_seconds()
        try:
            with self._pool.stream(
                request.method,
                httpcore.URL(
                    scheme=request.url.raw_scheme, host=request.url.raw_host, port=request.url.port, target=request.url.raw_path
                ),
                headers=request.headers.raw,
                content=request.read(),
                extensions={"timeout": self._timeouts()},
            ) as response:
                return httpx.Response(response.status, headers=response.headers, content=self._read(response), request=request)
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            # Both libraries give these errors the same names.
            raise getattr(httpx, type(error).__name__)(str(error), request=request) from error

    def close(self) -> None:
        self._pool.close()

    def _timeouts(self) -> dict[str, float]:
        connect, total = self._budget.connect.total_seconds(), self._budget.total.total_seconds()
        return {"connect": connect, "pool": connect, "read": total, "write": total}

    def _read(self, response: httpcore.Response) -> bytes:
        body = bytearray()
        for chunk in response.iter_stream():
            body += chunk
            if len(body) > self._budget.response_bytes:
                raise httpcore.RemoteProtocolError(f"the response is longer than {self._budget.response_bytes} bytes")
        return bytes(body)


class _Call(threading.local):
    """The end of the call that this thread is making (a call is made wholly in one thread)."""

    ends_at: float = 0.0

    def left(self, limit: float | None, spent: Callable[[str], Exception]) -> float:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise spent("the time budget of the call is spent")
        return left if limit is None else min(limit, left)


class _BudgetStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, call: _Call) -> None:
        self._stream = stream
        self._call = call

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._call.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._call.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        limit = self._call.left(timeout, httpcore.ConnectTimeout)
        return _BudgetStream(self._stream.start_tls(ssl_context, server_hostname, limit), self._call)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _BudgetBackend(httpcore.NetworkBackend):
    def __init__(self, call: _Call) -> None:
        self._inner = httpcore.SyncBackend()
        self._call = call

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[_SocketOption] | None = None,
    ) -> httpcore.NetworkStream:
        limit = self._call.left(timeout, httpcore.ConnectTimeout)
        return _BudgetStream(self._inner.connect_tcp(host, port, limit, local_address, socket_options), self._call)
