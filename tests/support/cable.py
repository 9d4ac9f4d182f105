"""A TCP connection that a test may cut, silence and mend: an outage of a service that goes on by itself."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self

import pytest
from sqlalchemy import Engine

CHUNK = 65536  # bytes


class Cable:
    """Forwards a local port to a target. While it is cut, a connection is accepted and closed at once; `refused` counts them.

    While it is silent, every connection stays open, new ones too, and nothing passes: the peer was stopped, or the line is half-open.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = Lock()
        self._is_cut = False
        self._ends: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.refused = 0
        self._passes = Event()
        self._passes.set()
        Thread(target=self._accept, name="cable", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _close(self._listener)
        self.cut()

    def cut(self) -> None:
        """Break every open connection, and refuse new ones."""
        with self._lock:
            self._is_cut = True
            ends, self._ends = self._ends, set()
        self._passes.set()
        for end in ends:
            _close(end)

    def silence(self) -> None:
        """Hold everything back from now on."""
        self._passes.clear()

    def mend(self) -> None:
        """Let new connections through, and what was held back."""
        with self._lock:
            self._is_cut = False
        self._passes.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._is_cut:
                    self.refused += 1
                    _close(client)
                    continue
                server = socket.create_connection(self._target)
                self._ends |= {client, server}
            for source, sink in ((client, server), (server, client)):
                Thread(target=_pump, args=(source, sink, self._passes), name="cable-pump", daemon=True).start()


@pytest.fixture
def cable(db: Engine) -> Iterator[Cable]:
    """The line to the database of the tests."""
    with Cable(str(db.url.host), int(db.url.port or 5432)) as cable:
        yield cable


def _pump(source: socket.socket, sink: socket.socket, passes: Event) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK):
            passes.wait()
            sink.sendall(chunk)
    # Both ends close together, as on a real line.
    _close(source)
    _close(sink)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
