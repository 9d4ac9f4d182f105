from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import NamedTuple

import pytest
import requests

from workers.sandbox.proxy import FaultProxy

REQUEST = b"GET / HTTP/1.1\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class _Target(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.received: list[str] = []
        self.arrived = Event()


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Target

    def do_GET(self) -> None:
        self._note()
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (b"first ", b"second"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_DELETE(self) -> None:
        self._note()
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _note(self) -> None:
        self.server.received.append(f"{self.command} {self.path}")
        self.server.arrived.set()


@pytest.fixture
def target() -> Iterator[_Target]:
    server = _Target()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def proxy(target: _Target) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", target.server_port) as proxy:
        yield proxy


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


class _Peers(NamedTuple):
    """The two ends of a connection through the proxy: the socket of the client, and the socket of the target."""

    proxy: FaultProxy
    client: socket.socket
    target: socket.socket


@pytest.fixture
def peers() -> Iterator[_Peers]:
    """Connect a client through the proxy to a target whose socket the test controls."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        FaultProxy("127.0.0.1", listener.getsockname()[1]) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client,
    ):
        target, _ = listener.accept()
        target.settimeout(10)
        with target:
            yield _Peers(proxy, client, target)


def exchange(peers: _Peers) -> None:
    """Exchange one request and its answer; both sides then keep the connection."""
    peers.client.sendall(REQUEST)
    assert peers.target.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
    peers.target.sendall(ANSWER)
    assert peers.client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


def test_exchanges_pass_unchanged_on_one_connection(proxy: FaultProxy, session: requests.Session) -> None:
    body = b"x" * 200_000

    answers = [session.get(f"{proxy.url}/a"), session.post(f"{proxy.url}/b", data=body), session.delete(f"{proxy.url}/c")]

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b"first second"), (200, body), (204, b"")]
    assert proxy.connections == 1
    assert proxy.requests == 3
    assert not proxy.faults


def test_a_dropped_response_was_carried_out(target: _Target, proxy: FaultProxy, session: requests.Session) -> None:
    proxy.drop_response("POST /start")

    with pytest.raises(requests.ConnectionError):
        session.post(f"{proxy.url}/start", data=b"once")

    assert target.received == ["POST /start"]
    assert proxy.faults == {"drop_response": 1}
    assert session.post(f"{proxy.url}/start", data=b"again").content == b"again"


def test_a_dropped_request_never_reaches_the_target(target: _Target, proxy: FaultProxy, session: requests.Session) -> None:
    proxy.drop_request(lambda request: b"secret body" in request)

    with pytest.raises(requests.ConnectionError):
        session.post(f"{proxy.url}/start", data=b"secret body")

    assert target.received == []
    assert session.post(f"{proxy.url}/start", data=b"other").content == b"other"


def test_a_delayed_answer_arrives_when_it_is_released(target: _Target, proxy: FaultProxy, session: requests.Session) -> None:
    released = Event()
    proxy.hold("GET /slow", released)

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(session.get, f"{proxy.url}/slow")
        assert target.arrived.wait(10)
        assert not answer.done()
        released.set()

        assert answer.result(10).content == b"first second"


def test_a_client_that_keeps_its_connection_sees_that_the_target_has_hung_up(peers: _Peers) -> None:
    exchange(peers)

    peers.target.close()

    assert peers.client.recv(1) == b""


def test_a_target_that_keeps_its_connection_sees_that_the_client_has_hung_up(peers: _Peers) -> None:
    exchange(peers)

    peers.client.close()

    assert peers.target.recv(1) == b""


def test_a_target_that_works_on_a_request_sees_that_the_client_has_hung_up(peers: _Peers) -> None:
    peers.client.sendall(REQUEST)
    assert peers.target.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST

    peers.client.close()

    assert peers.target.recv(1) == b""


def test_a_target_whose_answer_is_delayed_sees_that_the_client_has_hung_up(peers: _Peers) -> None:
    peers.proxy.hold("GET /", Event())
    peers.client.sendall(REQUEST)
    assert peers.target.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
    peers.target.sendall(ANSWER)

    peers.client.close()

    assert peers.target.recv(1) == b""


def test_requests_that_a_client_sends_at_once_are_answered_one_by_one(peers: _Peers) -> None:
    peers.client.sendall(REQUEST * 2)

    for _ in range(2):
        assert peers.target.recv(len(REQUEST), socket.MSG_WAITALL) == REQUEST
        peers.target.sendall(ANSWER)
        assert peers.client.recv(len(ANSWER), socket.MSG_WAITALL) == ANSWER


def test_a_fault_strikes_as_often_as_ordered(proxy: FaultProxy, session: requests.Session) -> None:
    proxy.drop_request("GET", times=2)

    outcomes = []
    for _ in range(3):
        try:
            outcomes.append(session.get(f"{proxy.url}/x").status_code)
        except requests.ConnectionError:
            outcomes.append(0)

    assert outcomes == [0, 0, 200]


def test_a_proxy_that_is_down_refuses_and_comes_back_on_its_port(proxy: FaultProxy, session: requests.Session) -> None:
    assert session.get(f"{proxy.url}/x").ok

    proxy.down()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.up()

    assert session.get(f"{proxy.url}/x").ok
