"""Whether a process can work now: each service that it needs is asked, in parallel, with a time limit.

The rule: a question never makes a probe wait longer than the limit, and however many probes come, a service gets one question a second.
A process is not ready before its loops run, nor from the moment that it is asked to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from threading import Event, Lock, Thread

from workers.runtime.engine_connection import EngineLockedOutError
from workers.runtime.outages import needs_a_person

Ask = Callable[[], object]
"""Asks a service for what the process needs of it. Raises an error whose text names no secret."""
Clock = Callable[[], float]

LIMIT = timedelta(seconds=2)  # a platform gives its probes a second or some, and a service that works answers in milliseconds
FRESH = timedelta(seconds=1)
# The engine locks a user after a wrong password: who asks every second would prolong the lock for everybody.
AFTER_A_REFUSED_LOGIN = timedelta(seconds=10)


class Readiness:
    """Answers `complaints()`: a line for each reason why the process cannot work; none when it can."""

    def __init__(self, stop: Event, *, limit: timedelta = LIMIT, clock: Clock = time.monotonic) -> None:
        self._stop = stop
        self._limit = limit
        self._clock = clock
        self._needs: Sequence[_Need] | None = None

    def watch(self, needs: Mapping[str, Ask]) -> None:
        """The loops are there; from now on the process is as ready as what it needs."""
        self._needs = [_Need(name, ask, self._limit, self._clock) for name, ask in needs.items()]

    def complaints(self) -> list[str]:
        """Ask every need. Takes no longer than the limit."""
        if self._stop.is_set():
            return ["process: it stops"]
        if self._needs is None:
            return ["process: it starts"]
        for need in self._needs:
            need.ask()
        found = [line for need in self._needs if (line := need.complaint())]
        return ["process: it stops"] if self._stop.is_set() else found


class _Need:
    def __init__(self, name: str, ask: Ask, limit: timedelta, clock: Clock) -> None:
        self._name = name
        self._ask = ask
        self._limit = limit.total_seconds()
        self._clock = clock
        self._lock = Lock()
        self._asked_at = float("-inf")
        self._again_at = float("-inf")
        self._answered = Event()
        self._answered.set()
        self._error: Exception | None = None

    def ask(self) -> None:
        """Ask, unless the question is on its way, or the last answer is fresh."""
        with self._lock:
            if not self._answered.is_set() or self._clock() < self._again_at:
                return
            self._answered.clear()
            self._asked_at = self._clock()
        # A daemon, so that a service that never answers cannot keep the process from ending.
        Thread(target=self._question, name=f"ready-{self._name}", daemon=True).start()

    def complaint(self) -> str | None:
        """Wait for the answer, up to the limit."""
        left = self._asked_at + self._limit - self._clock()
        if not self._answered.wait(max(0.0, left)):
            return f"{self._name}: no answer within {self._limit:g} s"
        error = self._error
        return None if error is None else f"{self._name}: {' '.join(str(error).split()) or type(error).__name__}"

    def _question(self) -> None:
        error: Exception | None = None
        try:
            self._ask()
        except Exception as raised:  # noqa: BLE001 - whatever it is, the process cannot work with the service
            error = raised
        with self._lock:
            self._error = error
            is_refused = error is not None and (needs_a_person(error) or isinstance(error, EngineLockedOutError))
            self._again_at = self._clock() + (AFTER_A_REFUSED_LOGIN if is_refused else FRESH).total_seconds()
            self._answered.set()
