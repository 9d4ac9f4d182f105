"""Lets one odd row spoil the query that meets it, and no other.

A statement that fails ends its transaction, and with it the one moment that the audit looks at. So each query has a savepoint of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, TextClause, text
from sqlalchemy.exc import DataError, DBAPIError

from domain.texts import reason_of

_OF_THE_SESSION = ("08", "25P", "40", "53", "55", "57P")
"""SQLSTATEs after which other queries would fail as well: the connection, its end or its room, or a lock that another transaction has."""

_NO_LOOPS = text("SET LOCAL enable_nestloop = off")


class UncheckedRulesError(Exception):
    """Some rules could not be checked. `reasons`: the code of each rule, with a line that says why."""

    def __init__(self, reasons: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{code} could not be checked: {reason}" for code, reason in reasons.items()))
        self.reasons = reasons


class Looked(NamedTuple):
    """The rows of a query. `failure`: why there are none, in one line; empty when the query has succeeded."""

    rows: list[Row[Any]]
    failure: str = ""


def expect_many_rows(connection: Connection) -> None:
    """Let PostgreSQL join by hashes or by order for the rest of the transaction.

    It expects hardly any row to pass the policies of a tenant, or to be in an excerpt. So it would compare each row of one table with each
    row of another one, and for a few thousand rows that takes longer than a statement may.
    """
    connection.execute(_NO_LOOPS)


def look(connection: Connection, query: TextClause, parameters: Mapping[str, Any]) -> Looked:
    """Run a query for itself. Raises the errors of a session that is of no more use."""
    try:
        with connection.begin_nested():
            return Looked(list(connection.execute(query, parameters)))
    except DBAPIError as error:
        if not _is_of_the_query(error):
            raise
        return Looked([], reason_of(error))


def _is_of_the_query(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated:
        return False
    # What the driver cannot read is an error of the row, and not of the server.
    return isinstance(error, DataError) if state is None else not state.startswith(_OF_THE_SESSION)
