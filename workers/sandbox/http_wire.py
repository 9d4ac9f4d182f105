"""Cuts a byte stream into whole HTTP/1.1 messages, so that a proxy can tell where an exchange ends.

The rule: bytes are passed on exactly as they came. Of the headers, only those that say where a message or the connection ends are read.
"""

from __future__ import annotations

import re
import select
import socket

_END_OF_HEAD = b"\r\n\r\n"
_CHUNK = 65536  # bytes per read
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked", re.IGNORECASE)
_CLOSES = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_NO_BODY = re.compile(rb"HTTP/1\.[01] (1\d\d|204|304)")
_CONTINUE = re.compile(rb"HTTP/1\.[01] 1\d\d")
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue", re.IGNORECASE)


class WireClosedError(Exception):
    """One of the two connections was closed, between two messages or within one."""


class HttpWire:
    """One connection, read message by message. `peer` is the connection to which its messages go: when it ends, reading ends too."""

    def __init__(self, connection: socket.socket, peer: socket.socket) -> None:
        self._connection = connection
        self._peer = peer
        self._buffer = b""

    def send(self, message: bytes) -> None:
        self._connection.sendall(message)

    def read_request(self) -> bytes:
        """Read one whole request. Raises WireClosedError or OSError."""
        head = self._take_through(_END_OF_HEAD)
        if _EXPECTS.search(head):
            # The client waits for permission to send its body. The proxy gives it, because the target gets only whole requests.
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head + self._body(head)

    def read_response(self, *, to_head: bool) -> tuple[bytes, bool]:
        """Read one whole response; the second value says whether the connection ends with it. `to_head`: the response to HEAD has no body."""
        head = self._take_through(_END_OF_HEAD)
        while _CONTINUE.match(head):
            head = self._take_through(_END_OF_HEAD)
        closes = bool(_CLOSES.search(head))
        if to_head or _NO_BODY.match(head):
            return head, closes
        if _LENGTH.search(head) or _CHUNKED.search(head):
            return head + self._body(head), closes
        return head + self._rest(), True

    def _body(self, head: bytes) -> bytes:
        if _CHUNKED.search(head):
            return self._chunks()
        length = _LENGTH.search(head)
        return self._take(int(length[1])) if length else b""

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line = self._take_through(b"\r\n")
            size = int(line.split(b";", 1)[0], 16)
            body += line
            if size == 0:
                return body + self._trailer()
            body += self._take(size + len(b"\r\n"))

    def _trailer(self) -> bytes:
        lines = b""
        while True:
            line = self._take_through(b"\r\n")
            lines += line
            if line == b"\r\n":
                return lines

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._fill()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _take_through(self, mark: bytes) -> bytes:
        while (end := self._buffer.find(mark)) < 0:
            self._fill()
        return self._take(end + len(mark))

    def _rest(self) -> bytes:
        while received := self._receive():
            self._buffer += received
        rest, self._buffer = self._buffer, b""
        return rest

    def _fill(self) -> None:
        received = self._receive()
        if not received:
            raise WireClosedError
        self._buffer += received

    def _receive(self) -> bytes:
        _wait_for_either(self._connection, self._peer)
        if has_ended(self._peer):
            raise WireClosedError
        return self._connection.recv(_CHUNK)


def has_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection, and everything that it sent has been read."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def _wait_for_either(*connections: socket.socket) -> None:
    """Wait until one of the connections has something to read, or has ended."""
    poll = select.poll()
    try:
        for connection in connections:
            poll.register(connection, select.POLLIN)
    except ValueError:
        raise WireClosedError from None  # the proxy went down and closed the connection, which has no descriptor any more
    poll.poll()
