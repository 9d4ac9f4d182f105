"""Actors: threads, each with its own connection, that stop before each statement until it is their turn.

The gates are events of SQLAlchemy on the actor's own engine, so the actor runs the product's code unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, IntEnum, auto
from functools import cache
from queue import SimpleQueue
from threading import Thread, current_thread
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import event

from tests.races.explorer.sessions import connect

Program: TypeAlias = "Callable[[Actor], str]"
"""Work of an actor; returns its outcome in a word."""


_WRITES = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) (\w+)")
# The statement that names the tenant meets no other actor, so it shares the gate of BEGIN.
_OF_THE_SESSION = ("BEGIN; SET LOCAL ", "SELECT set_config(")


@cache
def tables_written(statement: str) -> frozenset[str]:
    """The tables that a statement may change."""
    return frozenset(_WRITES.findall(statement))


class Standing(Enum):
    """Whether an actor is at a gate, on its way, waiting for a lock, or done."""

    AT_GATE = auto()
    RUNNING = auto()
    BLOCKED = auto()
    DONE = auto()


class Haste(IntEnum):
    """At which gates an actor stops: at every gate, only where its transaction ends, or at none because no other actor is left."""

    NONE = auto()
    TO_THE_END_OF_THE_TRANSACTION = auto()
    TO_THE_END = auto()


class Arrival(NamedTuple):
    """An actor stopped before a statement (`label`), or is done."""

    actor: Actor
    standing: Standing
    label: str


class Actor:
    """One of the actors that meet: it works on one program after the other, on one connection.

    It reports to `arrivals`. `standing` and `label` belong to the scheduler; the actor does not set them.
    `written` are the tables that its programs may have changed.
    """

    def __init__(self, name: str, database_url: str, arrivals: SimpleQueue[Arrival]) -> None:
        self.name = name
        self.engine = connect(database_url, name)
        self.standing = Standing.DONE
        self.label = ""
        self.ended = ""
        self.has_failed_statement = False
        self.written: set[str] = set()
        self._haste = Haste.NONE
        self._arrivals = arrivals
        self._programs: SimpleQueue[Program | None] = SimpleQueue()
        self._turns: SimpleQueue[None] = SimpleQueue()
        self._listen()
        with self.engine.connect() as connection:
            self.pid = int(connection.connection.driver_connection.info.backend_pid)  # type: ignore[union-attr]  # psycopg's
        self._thread = Thread(target=self._work, name=f"actor {name}", daemon=True)
        self._thread.start()

    def take(self, program: Program) -> None:
        """Begin a program; the actor arrives at its first gate."""
        self.standing = Standing.RUNNING
        self.has_failed_statement = False
        self._haste = Haste.NONE
        self._turns = SimpleQueue()
        self._programs.put(program)

    def go_on(self, haste: Haste = Haste.NONE) -> None:
        """Let the actor through its gate, or through the next one if it has not arrived yet."""
        self.standing = Standing.RUNNING
        self.has_failed_statement = False
        self._haste = haste
        self._turns.put(None)

    def dismiss(self) -> None:
        """End the thread and its connection."""
        self._programs.put(None)
        self._thread.join()
        self.engine.dispose()

    def gate(self, label: str, *, is_end: bool = False) -> None:
        """Stop until it is this actor's turn."""
        stops = self._haste is Haste.NONE or (is_end and self._haste is Haste.TO_THE_END_OF_THE_TRANSACTION)
        if stops and current_thread() is self._thread:
            self._arrivals.put(Arrival(self, Standing.AT_GATE, label))
            self._turns.get()

    def _work(self) -> None:
        while (program := self._programs.get()) is not None:
            try:
                self.ended = program(self)
            except Exception as error:  # noqa: BLE001 - reported as the outcome of the program
                self.ended = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            self._arrivals.put(Arrival(self, Standing.DONE, "done"))

    def _listen(self) -> None:
        event.listen(self.engine, "begin", lambda _: self.gate("BEGIN"))
        event.listen(self.engine, "commit", lambda _: self.gate("COMMIT", is_end=True))
        event.listen(self.engine, "rollback", lambda _: self.gate("ROLLBACK", is_end=True))

        @event.listens_for(self.engine, "before_cursor_execute")
        def _before(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith(_OF_THE_SESSION):
                self.gate(statement)
            self.written |= tables_written(statement)

        @event.listens_for(self.engine, "handle_error")
        def _failed(_context: Any) -> None:
            self.has_failed_statement = True
