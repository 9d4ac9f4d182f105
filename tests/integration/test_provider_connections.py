"""The outcome of a call to a provider when the connection is refused, cut, silent, or used again."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import pytest

from tests.support.ports import free_port_that_refuses
from tests.support.providers import KEY, REQUEST, SHORT
from workers.providers.budget import CallBudget
from workers.providers.http_provider import HttpProvider
from workers.providers.port import (
    ProviderContractError,
    ProviderOutcomeUnknownError,
    ProviderUnavailableError,
    ReplyStatus,
)

COMPLETED = {"requestId": "r", "status": "COMPLETED", "externalRef": "x"}
BODY = b'{"eventId": "evt-1"}'


@contextmanager
def server(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """Run a server for the block: it reads a request, then behaves as given."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while not ended.is_set():
                connection, _ = listener.accept()
                with connection:
                    if arrives(connection):
                        behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            ended.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()


def arrives(connection: socket.socket) -> bool:
    """Read one whole request; its head and its body may come in separate packets."""
    with connection.makefile("rb") as stream:
        head = list(itertools.takewhile(bytes.strip, iter(stream.readline, b"")))
        length = sum(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
        return head != [] and len(stream.read(length)) == length


def says(status: str, body: str, content_type: str = "application/json") -> Callable[[socket.socket], None]:
    answer = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
    return lambda connection: connection.sendall(answer)


def stays_silent(connection: socket.socket) -> None:
    assert connection.recv(1) == b""  # until the caller hangs up


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Filler: ")
    connection.settimeout(0.05)
    while True:
        try:
            connection.sendall(b".")
            if connection.recv(1) == b"":
                return
        except TimeoutError:
            continue
        except OSError:
            return


def test_a_refused_connection_proves_that_nothing_was_sent() -> None:
    with free_port_that_refuses() as port, HttpProvider(f"http://127.0.0.1:{port}", "token") as provider:
        with pytest.raises(ProviderUnavailableError):
            provider.execute(REQUEST)
        with pytest.raises(ProviderUnavailableError):
            provider.query(KEY)


def test_a_name_that_cannot_be_resolved_proves_that_nothing_was_sent() -> None:
    with HttpProvider("http://provider.invalid", "token", SHORT) as provider, pytest.raises(ProviderUnavailableError):
        provider.execute(REQUEST)


def test_a_connection_that_is_never_made_proves_that_nothing_was_sent() -> None:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # they fill the queue of a server that accepts no connection
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        provider = stack.enter_context(HttpProvider(f"http://127.0.0.1:{listener.getsockname()[1]}", "token", SHORT))

        with pytest.raises(ProviderUnavailableError):
            provider.execute(REQUEST)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(stays_silent, id="silence"),
        pytest.param(resets, id="reset"),
        pytest.param(drips, id="an answer that never ends"),
        pytest.param(lambda _: None, id="closed without answer"),
        pytest.param(says("500 Internal Server Error", "{}"), id="500"),
        pytest.param(says("503 Service Unavailable", "{}"), id="503"),
        pytest.param(says("429 Too Many Requests", "{}"), id="429"),
        pytest.param(says("302 Found", ""), id="redirect"),
        pytest.param(says("200 OK", "<html>", "text/html"), id="no JSON"),
        pytest.param(says("200 OK", '{"requestId": "r", "status": "COMPLETED"}'), id="completed without reference"),
        pytest.param(says("202 Accepted", '{"status": "ACCEPTED"}'), id="accepted without id"),
        pytest.param(says("200 OK", '{"requestId": "r", "status": "DONE", "externalRef": "x"}'), id="unknown status"),
        pytest.param(says("202 Accepted", '{"requestId": "r", "status": "COMPLETED", "externalRef": "x"}'), id="contradiction"),
        pytest.param(says("422 Unprocessable Content", '{"detail": []}'), id="422 that is no rejection"),
        pytest.param(says("200 OK", json.dumps({**COMPLETED, "externalRef": "\0"})), id="reference that cannot be stored"),
        pytest.param(says("200 OK", json.dumps(COMPLETED) + " " * 70_000), id="too long"),
    ],
)
def test_any_fault_after_sending_leaves_the_outcome_unknown(behave: Callable[[socket.socket], None]) -> None:
    with server(behave) as url, HttpProvider(url, "token", SHORT) as provider:
        with pytest.raises(ProviderOutcomeUnknownError):
            provider.execute(REQUEST)
        with pytest.raises(ProviderOutcomeUnknownError):
            provider.query(KEY)


def test_unknown_fields_of_a_reply_are_ignored() -> None:
    with server(says("200 OK", json.dumps({**COMPLETED, "since": 2027}))) as url, HttpProvider(url, "token") as provider:
        assert provider.execute(REQUEST).status is ReplyStatus.COMPLETED


@pytest.mark.parametrize("status", ["400 Bad Request", "401 Unauthorized", "404 Not Found"])
def test_a_request_that_the_provider_does_not_accept_is_a_broken_contract(status: str) -> None:
    with (
        server(says(status, '{"code": "NOT_ACCEPTED", "detail": "no"}')) as url,
        HttpProvider(url, "token") as provider,
        pytest.raises(ProviderContractError),
    ):
        provider.execute(REQUEST)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(says("404 Not Found", "<html>", "text/html"), id="page"),
        pytest.param(says("404 Not Found", '{"detail": "Not Found"}'), id="framework"),
        pytest.param(says("404 Not Found", '{"code": "TENANT_UNKNOWN"}'), id="other code"),
        pytest.param(says("410 Gone", '{"code": "REQUEST_UNKNOWN"}'), id="other status"),
    ],
)
def test_a_404_that_does_not_name_the_request_is_no_proof_of_absence(behave: Callable[[socket.socket], None]) -> None:
    with server(behave) as url, HttpProvider(url, "token") as provider, pytest.raises(ProviderOutcomeUnknownError):
        provider.query(KEY)


def test_an_address_without_scheme_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="http://"):
        HttpProvider("provider.example:8080", "token")


def test_an_idle_connection_is_not_used_again() -> None:
    """Kills: sending into a connection that the server is closing, which makes an outcome unknown without need."""
    connections = 0

    def answers_while_it_can(connection: socket.socket) -> None:
        nonlocal connections
        connections += 1
        body = json.dumps(COMPLETED)
        answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        connection.sendall(answer)
        while arrives(connection):
            connection.sendall(answer)

    with server(answers_while_it_can) as url:
        for idle, expected in ((timedelta(minutes=1), 1), (timedelta(0), 3)):
            connections = 0
            with HttpProvider(url, "token", CallBudget(idle=idle)) as provider:
                for _ in range(3):
                    provider.execute(REQUEST)
            assert connections == expected
