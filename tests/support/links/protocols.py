"""Cuts the two directions of a link into requests and answers, so that a fault strikes exactly one exchange.

A request is passed on whole. An answer comes in parts, and the last part is marked, so that a long one need not be kept. Bytes are passed on
as they came, except for the addresses that a Kafka broker tells its clients: they become that of the link.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from workers.sandbox.http_wire import HttpWire, WireClosedError

CHUNK = 65536  # bytes
HOST = "127.0.0.1"


class Request(NamedTuple):
    """One request; `has_answer` False: its sender waits for nothing."""

    content: bytes
    has_answer: bool = True


class Part(NamedTuple):
    """A part of an answer; `closes`: nothing comes on this connection after it."""

    content: bytes
    is_last: bool = True
    closes: bool = False


class Wire(Protocol):
    """One connection of a client, and the one to the target that belongs to it."""

    def requests(self) -> Iterator[Request]:
        """Read what the client asks, until it closes its connection."""

    def answers(self) -> Iterator[Part]:
        """Read what the target answers, until it closes its connection."""


class Speaks(Protocol):
    """What a link speaks. `matches`: whether a request is the one that a fault names."""

    def wire(self, client: socket.socket, target: socket.socket) -> Wire: ...

    def matches(self, name: str, request: bytes) -> bool: ...


Message: TypeAlias = tuple[bytes, bytes]


class Http:
    """A request is named by a part of its first line, as `POST /quotes`."""

    def wire(self, client: socket.socket, target: socket.socket) -> Wire:
        return _HttpWire(HttpWire(client, target), HttpWire(target, client))

    def matches(self, name: str, request: bytes) -> bool:
        return name.encode() in request.split(b"\r\n", 1)[0]


@dataclass(slots=True)
class _HttpWire:
    client: HttpWire
    target: HttpWire
    to_head: bool = False

    def requests(self) -> Iterator[Request]:
        while True:
            content = self.client.read_request()
            self.to_head = content.startswith(b"HEAD ")
            yield Request(content)

    def answers(self) -> Iterator[Part]:
        while True:
            content, closes = self.target.read_response(to_head=self.to_head)
            yield Part(content, closes=closes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kafka:
    """A request is named by its kind, as `Produce`. The broker at `broker_port` tells its clients the port of the link."""

    broker_port: int
    link_port: int

    KINDS = {"Produce": 0, "Fetch": 1, "Metadata": 3, "OffsetCommit": 8, "JoinGroup": 11}  # noqa: RUF012 - a constant

    def wire(self, client: socket.socket, target: socket.socket) -> Wire:
        return _KafkaWire(_Reader(client), _Reader(target), self)

    def matches(self, name: str, request: bytes) -> bool:
        return bool(struct.unpack_from(">h", request, 4)[0] == self.KINDS[name])

    def told(self, answer: bytes) -> bytes:
        """The answer with the port of the link in place of the broker's, where it stands behind the address."""
        before, after = (HOST.encode() + struct.pack(">i", port) for port in (self.broker_port, self.link_port))
        return answer.replace(before, after)


@dataclass(slots=True)
class _KafkaWire:
    client: _Reader
    target: _Reader
    kafka: Kafka

    def requests(self) -> Iterator[Request]:
        while True:
            yield Request(self._frame(self.client))

    def answers(self) -> Iterator[Part]:
        while True:
            yield Part(self.kafka.told(self._frame(self.target)))

    @staticmethod
    def _frame(reader: _Reader) -> bytes:
        size = reader.take(4)
        return size + reader.take(struct.unpack(">i", size)[0])


class Postgres:
    """A request is named by a part of its text, as `INSERT INTO quote`. What a client prepared before is executed without its text."""

    def wire(self, client: socket.socket, target: socket.socket) -> Wire:
        return _PostgresWire(client, target)

    def matches(self, name: str, request: bytes) -> bool:
        return name.encode() in request


ENCRYPTION = {80877103, 80877104}  # the codes of SSLRequest and GSSENCRequest
CANCEL = 80877102
ENDS_A_REQUEST = {b"S", b"Q", b"H", b"X", b"p", b"F", b"d", b"c", b"f"}
IS_ANSWERED = {b"S", b"Q", b"F"}  # by messages up to ReadyForQuery; the others belong to a request, or end the session
READY = b"Z"


class _PostgresWire:
    def __init__(self, client: socket.socket, target: socket.socket) -> None:
        self._connection = client
        self._client, self._target = _Reader(client), _Reader(target)

    def requests(self) -> Iterator[Request]:
        yield self._start()
        while True:
            kind, content = _message(self._client)
            while kind not in ENDS_A_REQUEST:
                kind, message = _message(self._client)
                content += message
            yield Request(content, has_answer=kind in IS_ANSWERED)

    def _start(self) -> Request:
        while True:
            size = self._client.take(4)
            body = self._client.take(struct.unpack(">i", size)[0] - 4)
            [code] = struct.unpack_from(">i", body)
            if code not in ENCRYPTION:
                return Request(size + body, has_answer=code != CANCEL)
            self._connection.sendall(b"N")  # a link reads what passes, so it is never encrypted

    def answers(self) -> Iterator[Part]:
        while True:
            kind, message = _message(self._target)
            yield Part(message, is_last=kind == READY)


def is_commit(answer: bytes) -> bool:
    """Whether this message of PostgreSQL says that a COMMIT is carried out."""
    return answer[:1] == b"C" and answer[5:] == b"COMMIT\0"


def _message(reader: _Reader) -> Message:
    head = reader.take(5)
    return head[:1], head + reader.take(struct.unpack(">i", head[1:])[0] - 4)


class Raw:
    """Anything: what arrives together is a request, or an answer. It has no names."""

    def wire(self, client: socket.socket, target: socket.socket) -> Wire:
        return _RawWire(_Reader(client), _Reader(target))

    def matches(self, name: str, request: bytes) -> bool:
        return name.encode() in request


@dataclass(slots=True)
class _RawWire:
    client: _Reader
    target: _Reader

    def requests(self) -> Iterator[Request]:
        while True:
            yield Request(self.client.some(), has_answer=False)

    def answers(self) -> Iterator[Part]:
        while True:
            yield Part(self.target.some())


class _Reader:
    """Reads from a connection; raises WireClosedError at its end."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._buffer += self.some()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def some(self) -> bytes:
        received = self._connection.recv(CHUNK)
        if not received:
            raise WireClosedError
        return received
