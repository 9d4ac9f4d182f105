"""A connection to PostgreSQL that gives up on a server that says nothing.

The server's own limits end with the server: one that is stopped, cut off or replaced says nothing at all. So the client has a limit above
each of the server's, and gives up the connection when it is reached. docs/database.md has all of them in one table.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, Self, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout  # the base of what `wait` raises is too wide to tell it from an error of the server

from workers.runtime.database_values import load_leniently

CONNECT_SECONDS: Final = 5
"""For the whole exchange that opens a connection, for each address."""
MARGIN: Final = timedelta(seconds=2)
"""What a response may take above the server's limit for a statement: the server notices its own limits within milliseconds."""
TCP: Final = {
    # A connection that waits in the pool behind a firewall which forgot it is noticed within 45 s, before a command meets it.
    "keepalives": 1,
    "keepalives_idle": 30,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # What we have sent is acknowledged by the peer's kernel within this time, or the connection is lost. Milliseconds.
    "tcp_user_timeout": 10_000,
}
_T = TypeVar("_T")


class NoResponseError(psycopg.OperationalError):
    """The server did not respond in time. The connection is closed."""


class PatientConnection(psycopg.Connection[Any]):
    """Waits for each response of the server as long as `response_timeout` says (seconds; None: without end)."""

    response_timeout: float | None = None

    @classmethod
    def open(cls, response_timeout: timedelta | None, **parameters: Any) -> Self:
        """Connect. Raises psycopg.OperationalError."""
        connection = cls.connect(**{**TCP, "connect_timeout": CONNECT_SECONDS, **parameters})
        load_leniently(connection)
        connection.response_timeout = response_timeout.total_seconds() if response_timeout else None
        return connection

    def wait(self, gen: PQGen[_T], interval: float = 0.1, timeout: float | None = None) -> _T:
        """As the driver does. Raises NoResponseError."""
        try:
            return super().wait(gen, interval, self.response_timeout if timeout is None else timeout)
        except _WaitTimeout as error:
            # What the server may still send would be taken for the response to the next statement.
            self.pgconn.finish()
            raise NoResponseError(f"the database did not respond within {self.response_timeout:g} s") from error
