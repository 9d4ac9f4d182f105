"""A database session that ends at one gate: before a statement, or at COMMIT.

The gates are events of SQLAlchemy on the session's own engine, so the command runs the product's code unchanged. A process that is killed
between two statements has sent the first and not the second: to die before a gate is to die after the one before it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event

COMMIT = "COMMIT"


class Death(StrEnum):
    """What ends at the gate: the process, or only its session. At COMMIT, whether the server carries it out."""

    KILLED = "killed before"
    CUT = "session cut before"
    KILLED_AFTER = "killed after"
    REPLY_LOST = "reply lost"

    @property
    def is_after(self) -> bool:
        """Whether the server has carried out the COMMIT."""
        return self in {Death.KILLED_AFTER, Death.REPLY_LOST}


class Crash(NamedTuple):
    """The number of the gate, from 0, and what happens there."""

    gate: int
    death: Death

    def __str__(self) -> str:
        return f"{self.death} gate {self.gate}"


class KilledError(BaseException):
    """Ends the program as a signal would: no `except Exception` goes on after it."""


class Mortal:
    """A connection pool with at most one crash. `gates` are the labels of the gates reached so far."""

    def __init__(self, engine: Engine, crash: Crash | None = None) -> None:
        self.engine = engine
        self.gates: list[str] = []
        self._crash = crash
        self._is_dead = False
        event.listen(self.engine, "do_connect", self._refuse_the_dead)
        event.listen(self.engine, "before_cursor_execute", self._before_statement)
        event.listen(self.engine, "commit", lambda connection: self._gate(connection, COMMIT))

    def _refuse_the_dead(self, *_: object) -> None:
        if self._is_dead:
            raise KilledError

    def _before_statement(self, connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        self._gate(connection, statement)

    def _gate(self, connection: Connection, label: str) -> None:
        self._refuse_the_dead()
        self.gates.append(label)
        if self._crash is None or len(self.gates) - 1 != self._crash.gate:
            return
        death = self._crash.death
        driver: Any = connection.connection.driver_connection
        if death.is_after:
            driver.commit()
        driver.close()
        if death in {Death.KILLED, Death.KILLED_AFTER}:
            self._is_dead = True
            raise KilledError
