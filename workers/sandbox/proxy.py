"""The fault proxy: a proxy on loopback that breaks HTTP exchanges on purpose, so that their outcome becomes unknown.

The rule: each fault is exact. When a response is dropped, the target has carried the request out and sent the whole response; when a
request is dropped, it never reached the target. Everything else passes unchanged, also on connections that are kept alive. Both sides of
a connection close together, so that a client notices when the target closes, and does not send its next request to a closed connection.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self, TypeAlias

from workers.sandbox.http_wire import HttpWire, WireClosedError, has_ended

Match: TypeAlias = Callable[[bytes], bool] | str
ALWAYS = 1_000_000  # times
_LOOPBACK = "127.0.0.1"
_HOLD_CHECK = 0.1  # seconds; how often a delayed exchange checks whether the proxy or its client has gone


@dataclass(slots=True, kw_only=True)
class _Fault:
    kind: str
    matches: Callable[[bytes], bool]
    times: int
    released: Event = field(default_factory=Event)


class FaultProxy:
    """Forwards the connections to `url` to a target. `faults` counts the faults by kind, `requests` the requests that were forwarded.

    A match is a substring of the request line (`"POST /x"`) or a function of the bytes of the whole request. Also a context manager.
    """

    def __init__(self, target_host: str, target_port: int, *, port: int = 0) -> None:
        self._target = (target_host, target_port)
        self._rules: list[_Fault] = []
        self._lock = Lock()
        self._sockets: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self.connections = 0
        self.port = port
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down()

    @property
    def url(self) -> str:
        return f"http://{_LOOPBACK}:{self.port}"

    def drop_response(self, match: Match, times: int = 1) -> None:
        """Forward matching requests, read the whole response, and close the connection without passing the response on."""
        self._add("drop_response", match, times, Event())

    def drop_request(self, match: Match, times: int = 1) -> None:
        """Read matching requests and close the connection; the target never sees them."""
        self._add("drop_request", match, times, Event())

    def hold(self, match: Match, released: Event, times: int = 1) -> None:
        """Delay the responses to matching requests until `released` is set."""
        self._add("hold", match, times, released)

    def clear(self) -> None:
        """Forget the faults that have not happened yet. Responses that are delayed stay so until they are released."""
        with self._lock:
            self._rules.clear()

    def down(self) -> None:
        """Refuse new connections, and close the open ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets, self._sockets = self._sockets, set()
        if listener is not None:
            _close(listener)
        for connection in sockets:
            _close(connection)

    def up(self) -> None:
        """Accept connections, on the same port as before."""
        if self._listener is not None:
            return
        listener = socket.create_server((_LOOPBACK, self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        Thread(target=self._accept, args=(listener,), name="fault-proxy", daemon=True).start()

    def _add(self, kind: str, match: Match, times: int, released: Event) -> None:
        matches = match if callable(match) else _in_request_line(match)
        with self._lock:
            self._rules.append(_Fault(kind=kind, matches=matches, times=times, released=released))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
                self.connections += 1
            Thread(target=self._serve, args=(client,), name="fault-proxy-exchange", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        upstream: socket.socket | None = None
        try:
            upstream = socket.create_connection(self._target)
            with self._lock:
                self._sockets.add(upstream)
            self._exchange(client, upstream)
        except (OSError, WireClosedError):
            return  # one side closed the connection, or the proxy went down: both sides are closed below
        finally:
            for connection in (client, upstream):
                if connection is not None:
                    with self._lock:
                        self._sockets.discard(connection)
                    _close(connection)

    def _exchange(self, client_side: socket.socket, target_side: socket.socket) -> None:
        client, target = HttpWire(client_side, target_side), HttpWire(target_side, client_side)
        while True:
            request = client.read_request()
            fault = self._fault_for(request)
            if fault is not None and fault.kind == "drop_request":
                return
            with self._lock:
                self.requests += 1
            target.send(request)
            response, is_last = target.read_response(to_head=request.startswith(b"HEAD "))
            if fault is not None and fault.kind == "drop_response":
                return
            if fault is not None and not self._await_release(fault, client_side):
                return
            client.send(response)
            if is_last:
                return

    def _await_release(self, fault: _Fault, client_side: socket.socket) -> bool:
        while not fault.released.wait(_HOLD_CHECK):
            if self._listener is None or has_ended(client_side):
                return False
        return True

    def _fault_for(self, request: bytes) -> _Fault | None:
        with self._lock:
            for fault in self._rules:
                if fault.times > 0 and fault.matches(request):
                    fault.times -= 1
                    self.faults[fault.kind] += 1
                    return fault
        return None


def _in_request_line(text: str) -> Callable[[bytes], bool]:
    wanted = text.encode()
    return lambda request: wanted in request.split(b"\r\n", 1)[0]


def _close(connection: socket.socket) -> None:
    # Wakes a thread that waits in accept or recv; close alone leaves it waiting.
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
