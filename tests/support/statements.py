"""The statements that are sent to the database, read where SQLAlchemy hands them to the driver."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
