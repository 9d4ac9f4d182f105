"""A link: a proxy on loopback that breaks chosen exchanges, or everything, on purpose.

Each fault is exact, so that its outcome is known to the test and not to the client: an answer is dropped when the target has carried the
request out and has answered; a dropped request never arrived. What no fault names passes as it came.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self, TypeAlias

import pytest
from sqlalchemy import Engine

from tests.support.links.protocols import HOST, Kafka, Part, Raw, Request, Speaks, is_commit
from tests.support.links.rules import Kind, Rule
from workers.sandbox.http_wire import WireClosedError

Match: TypeAlias = Callable[[bytes], bool] | str
EVERY: Match = lambda _: True  # noqa: E731 - a name for a match
LONGEST_DELAY_SECONDS = 60.0
CHECK_SECONDS = 0.05  # how often what is held back looks whether its link has ended
BROKEN = (OSError, WireClosedError)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close by RST


class Link:
    """Forwards `port` on loopback to a target.

    `struck` counts the exchanges that were broken, by kind; `refused` the connections; `held` what had to wait while the link was silent.
    """

    def __init__(self, host: str, port: int, speaks: Speaks | None = None) -> None:
        self._target = (host, port)
        self._lock = Lock()
        self._rules: list[Rule] = []
        self._lines: set[_Line] = set()
        self._is_cut = False
        self._passes = Event()
        self._passes.set()
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._speaks = speaks or Raw()
        self.struck: Counter[Kind] = Counter()
        self.refused = self.held = 0
        Thread(target=self._accept, name="link", daemon=True).start()

    @classmethod
    def to_kafka(cls, host: str, port: int) -> Link:
        """A link to a broker, which tells its clients to come by way of the link."""
        link = cls(host, port)
        link._speaks = Kafka(broker_port=port, link_port=link.port)
        return link

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _close(self._listener)
        self.cut()

    def drop_answer(self, match: Match = EVERY, times: int = 1) -> Rule:
        """Let the target carry matching requests out and answer; close the connection in place of passing the answer on."""
        return self._add(Kind.DROP_ANSWER, match, times)

    def drop_request(self, match: Match = EVERY, times: int = 1) -> Rule:
        """Close the connection at matching requests; they never arrive."""
        return self._add(Kind.DROP_REQUEST, match, times)

    def duplicate(self, match: Match = EVERY, times: int = 1) -> Rule:
        """Send matching requests twice, at the same time; the client gets one answer. For protocols whose requests need no session."""
        return self._add(Kind.DUPLICATE, match, times)

    def hold(self, match: Match, released: Event, times: int = 1) -> Rule:
        """Hold the answers to matching requests back until `released` is set."""
        return self._add(Kind.HOLD, match, times, released)

    def delay(self, match: Match, released: Event, times: int = 1) -> Rule:
        """Close the connection when a matching request arrives, and deliver the request after `released` is set. It must not need a session."""
        return self._add(Kind.DELAY, match, times, released)

    def reset(self, match: Match = EVERY, times: int = 1) -> Rule:
        """Reset both connections (RST) when half of a matching request has been sent."""
        return self._add(Kind.RESET, match, times)

    def half_open(self, match: Match = EVERY, times: int = 1) -> Rule:
        """From a matching request on nothing passes: the target is gone, and the client's connection stays open until it closes it."""
        return self._add(Kind.HALF_OPEN, match, times)

    def cut_after_commit(self, times: int = 1) -> Rule:
        """Close the connection when PostgreSQL says that a COMMIT is carried out, in place of passing that on."""
        return self._add(Kind.CUT_AFTER_COMMIT, EVERY, times)

    def clear(self) -> None:
        """Forget the faults that have not struck yet."""
        with self._lock:
            self._rules.clear()

    def forget(self, rule: Rule) -> None:
        """Let a fault strike no more."""
        with self._lock, suppress(ValueError):
            self._rules.remove(rule)

    def cut(self) -> int:
        """Break every open connection, and refuse new ones. Returns how many were open."""
        with self._lock:
            self._is_cut = True
            lines, self._lines = self._lines, set()
        self._passes.set()
        for line in lines:
            line.close()
        return len(lines)

    def silence(self) -> None:
        """Hold everything back from now on: every connection stays open, new ones too, and nothing passes."""
        self._passes.clear()

    def mend(self) -> None:
        """Let new connections through, and what was held back by `silence`."""
        with self._lock:
            self._is_cut = False
        self._passes.set()

    def _add(self, kind: Kind, match: Match, times: int, released: Event | None = None) -> Rule:
        matches = match if callable(match) else lambda request: self._speaks.matches(match, request)
        rule = Rule(kind, matches, times, released or Event())
        with self._lock:
            self._rules.append(rule)
        return rule

    def strike(self, request: bytes, kinds: frozenset[Kind]) -> Rule | None:
        """The fault that strikes this request, if one of these kinds does; counts it."""
        with self._lock:
            for rule in self._rules:
                if rule.times > 0 and rule.kind in kinds and rule.matches(request):
                    rule.times -= 1
                    rule.struck += 1
                    self.struck[rule.kind] += 1
                    return rule
        return None

    def connect(self) -> socket.socket:
        """A new connection to the target."""
        return socket.create_connection(self._target)

    def wait_to_pass(self) -> None:
        """Wait while the link is silent."""
        if not self._passes.is_set():
            self.held += 1
            self._passes.wait()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            Thread(target=self._serve, args=(client,), name="link-line", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            is_cut = self._is_cut
            self.refused += is_cut
        self.wait_to_pass()
        if is_cut:
            _close(client)
            return
        try:
            target = self.connect()
        except OSError:
            _close(client)
            return
        line = _Line(self, client, target, self._speaks)
        with self._lock:
            self._lines.add(line)
        try:
            line.run()
        finally:
            with self._lock:
                self._lines.discard(line)


class _Line:
    """One connection through a link: a thread for each direction, and the exchanges whose answer has not come, oldest first."""

    OF_REQUESTS = frozenset(Kind) - {Kind.CUT_AFTER_COMMIT}

    def __init__(self, link: Link, client: socket.socket, target: socket.socket, speaks: Speaks) -> None:
        self._link, self._client, self._target = link, client, target
        self._wire = speaks.wire(client, target)
        self._open: deque[Rule | None] = deque()
        self._is_closed = Event()
        self._is_half = False

    def run(self) -> None:
        answering = Thread(target=self._answer, name="link-answers", daemon=True)
        answering.start()
        with suppress(*BROKEN):
            for request in self._wire.requests():
                self._link.wait_to_pass()
                self._ask(request)
        self.close()
        answering.join()

    def close(self) -> None:
        self._is_closed.set()
        # Both ends close together, as on a real line.
        _close(self._client)
        _close(self._target)

    def _ask(self, request: Request) -> None:
        rule = self._link.strike(request.content, self.OF_REQUESTS) if request.has_answer else None
        match rule.kind if rule else None:
            case Kind.DROP_REQUEST:
                raise WireClosedError
            case Kind.DELAY if rule:
                self._send_apart_in_time(request, rule.released)
                raise WireClosedError
            case Kind.RESET:
                self._target.sendall(request.content[: len(request.content) // 2])
                for end in (self._client, self._target):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    end.close()
                raise WireClosedError
            case Kind.HALF_OPEN:
                self._is_half = True
                _close(self._target)
                while self._client.recv(1):
                    pass
                raise WireClosedError
            case Kind.DUPLICATE:
                self._send_apart_in_time(request)
            case _:
                pass
        if request.has_answer:
            self._open.append(rule)
        self._target.sendall(request.content)

    def _send_apart_in_time(self, request: Request, released: Event | None = None) -> None:
        def send() -> None:
            if released is None or released.wait(LONGEST_DELAY_SECONDS):
                with suppress(*BROKEN), self._link.connect() as other:
                    other.sendall(request.content)
                    other.settimeout(10)
                    other.recv(1)

        Thread(target=send, name="link-apart", daemon=True).start()

    def _answer(self) -> None:
        with suppress(*BROKEN):
            for part in self._wire.answers():
                self._link.wait_to_pass()
                if not self._pass_on(part):
                    break
        if not self._is_half:
            self.close()

    def _pass_on(self, part: Part) -> bool:
        """Pass a part of an answer on, unless a fault keeps it; returns whether the connection goes on."""
        rule = self._open[0] if self._open else None
        if part.is_last and self._open:
            self._open.popleft()
        if is_commit(part.content) and self._link.strike(part.content, frozenset({Kind.CUT_AFTER_COMMIT})):
            return False
        if rule is not None and rule.kind is Kind.DROP_ANSWER:
            return not part.is_last
        if rule is not None and rule.kind is Kind.HOLD:
            while not rule.released.wait(CHECK_SECONDS):
                if self._is_closed.is_set():
                    return False
        self._client.sendall(part.content)
        return not part.closes


@pytest.fixture
def link(db: Engine) -> Iterator[Link]:
    """The line to the database of the tests."""
    with Link(str(db.url.host), int(db.url.port or 5432)) as link:
        yield link


def _close(end: socket.socket) -> None:
    # Wakes a thread that waits in accept or recv; close alone leaves it waiting.
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
