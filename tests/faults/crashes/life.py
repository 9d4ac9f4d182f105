"""One life of a process of the suite: it runs the product's code until it reaches a place where no process has died yet.

A dead process does nothing more: its sessions end, and every further statement or call of its threads is refused here. So it looks to
everybody else as if it had been killed. It is a thread, because a new process for each of some hundred lives would take an hour.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from threading import Event
from typing import Any, Final

import structlog
from sqlalchemy import Connection, event
from sqlalchemy import Engine as Database

from tests.faults.crashes.mortal import COMMIT, Death, KilledError
from tests.faults.crashes.places import Place, Places
from workers import suite
from workers.runtime.settings import Settings

LABEL = 70  # so many characters of a statement tell it from others
OF_A_STATEMENT: Final = (Death.KILLED, Death.CUT)
OF_A_CALL: Final = (Death.KILLED, Death.KILLED_AFTER)
_connect, _engine_of, _providers_of = suite.connect, suite.engine_of, suite.providers_of


class Life:
    """What a process is built from in this life. `stop` asks it to end; `over` is set when it has ended, and both when it has died."""

    def __init__(self, process: str, places: Places) -> None:
        self.stop = Event()
        self.over = Event()
        self.is_dead = False
        self._process = process
        self._places = places
        self._sessions: list[Any] = []
        self._closers: list[Callable[[], object]] = []

    def connect(self, settings: Settings, process: str, purpose: str = "") -> Database:
        """Stands in for `suite.connect`."""
        database = _connect(settings, process, purpose)
        self._closers.append(database.dispose)
        event.listen(database, "do_connect", lambda *_: self._refuse_the_dead())
        event.listen(database, "connect", lambda session, _: self._sessions.append(session))
        event.listen(database, "before_cursor_execute", self._before_statement)
        event.listen(database, "commit", lambda connection: self._gate(connection, COMMIT, tuple(Death)))
        return database

    def engine_of(self, settings: Settings, **options: Any) -> Any:
        """Stands in for `suite.engine_of`."""
        engine = _engine_of(settings, **options)
        self._closers.append(engine.close)
        return _Gated(self, engine, "engine")

    def providers_of(self, settings: Settings) -> Mapping[str, Any]:
        """Stands in for `suite.providers_of`."""
        providers: Mapping[str, Any] = _providers_of(settings)
        self._closers += [provider.close for provider in providers.values()]
        return {name: _Gated(self, provider, "provider") for name, provider in providers.items()}

    def close(self) -> None:
        """Close what is open. Call it once more at the end: a thread that was in the middle of a call may have opened something since."""
        for close in self._closers:
            close()

    def call(self, gate: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Make a call to the engine or a provider; the process may die before it, or before it has the reply."""
        self._refuse_the_dead()
        death = self._places.next_death(Place(self._process, _work(), gate), OF_A_CALL)
        if death is Death.KILLED:
            self._die()
        result = call(*arguments, **named)
        if death is Death.KILLED_AFTER:
            self._die()
        return result

    def _before_statement(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        label = "BEGIN" if statement.startswith("BEGIN") else " ".join(statement.split())[:LABEL]
        self._gate(connection, label, OF_A_STATEMENT)

    def _gate(self, connection: Connection, label: str, deaths: Sequence[Death]) -> None:
        self._refuse_the_dead()
        work = _work() or str(connection.info.get("command", ""))
        death = self._places.next_death(Place(self._process, work, label), deaths)
        if death is None:
            return
        driver: Any = connection.connection.driver_connection
        if death.is_after:
            driver.commit()
        driver.close()
        if death in OF_A_CALL:
            self._die()

    def _refuse_the_dead(self) -> None:
        if self.is_dead:
            raise KilledError

    def _die(self) -> None:
        self.is_dead = True
        self.stop.set()
        for session in self._sessions:
            # Another thread may be in the middle of a statement: only the line may be cut under it.
            with suppress(Exception), socket.fromfd(session.fileno(), socket.AF_INET, socket.SOCK_STREAM) as line:
                line.shutdown(socket.SHUT_RDWR)
        self.over.set()
        raise KilledError


class _Gated:
    """The engine or a provider, with a gate before and behind each call."""

    def __init__(self, life: Life, target: Any, name: str) -> None:
        self._life, self._target, self._name = life, target, name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(self._target, attribute)
        if not callable(value):
            return value
        return lambda *arguments, **named: self._life.call(f"{self._name}.{attribute}", value, *arguments, **named)


def _work() -> str:
    """The topic of the external task that this thread works on."""
    return str(structlog.contextvars.get_contextvars().get("topic", ""))
