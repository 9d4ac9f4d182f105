"""Bytes on a connection to the HTTP edge, for what no client library sends."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.http import Api


@contextmanager
def connected(api: Api) -> Iterator[socket.socket]:
    """Open a connection; only a failing test waits for its time-out."""
    address = urlsplit(str(api.client.base_url))
    with socket.create_connection((str(address.hostname), int(address.port or 0)), timeout=30) as connection:
        yield connection


def head(api: Api, *lines: str, method: str = "POST", path: str = "/quotes") -> bytes:
    """The head of a request by a sales agent."""
    given = [f"{method} {path} HTTP/1.1", "Host: edge", f"Authorization: Bearer {api.sales.token}", "Idempotency-Key: raw-1"]
    return "\r\n".join([*given, "Content-Type: application/json", *lines, "", ""]).encode()


def rest(connection: socket.socket) -> bytes:
    """Everything that comes until the edge closes the connection."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


def trickle(connection: socket.socket, byte: bytes, times: int) -> bytes:
    """Send a byte again and again, with ten milliseconds between, until something comes; returns it."""
    connection.settimeout(0.01)
    for _ in range(times):
        try:
            return connection.recv(65_536)
        except TimeoutError:
            connection.sendall(byte)
    return b""
