"""The statements that are sent to the database, read where SQLAlchemy hands them to the driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Engine, event


class Sent(NamedTuple):
    """A statement, as the driver got it, and its parameters."""

    statement: str
    parameters: Mapping[str, Any]


@contextmanager
def listening(engine: Engine) -> Iterator[list[list[Sent]]]:
    """Collect every transaction that begins in the block, with its statements; of many rows in one round trip, the first."""
    transactions: list[list[Sent]] = []

    def begin(_: object) -> None:
        transactions.append([])

    def note(*told: Any) -> None:
        _, _, statement, parameters, _, is_many = told
        transactions[-1].append(Sent(statement, dict(parameters[0] if is_many else parameters)))

    event.listen(engine, "begin", begin)
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield transactions
    finally:
        event.remove(engine, "begin", begin)
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def before_statement(number: int, database: Engine, act: Callable[[], object]) -> Iterator[None]:
    """Run `act` right before the block sends its n-th statement (from 1) to the pool; `act` has a transaction of its own.

    A block that sends fewer statements runs without it; one that sends none is refused: it uses another pool.
    """
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == number:
            act()

    event.listen(database, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(database, "before_cursor_execute", count)
    assert sent
