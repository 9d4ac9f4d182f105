"""How long a transaction may wait for a row, run one statement, pause, and last.

Each transaction sets its limits itself, in the round trip that begins it. A limit of the session would be lost behind a pooler, which gives
every transaction another session of the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Final

LIMITS: Final = "q2o_limits"
"""The execution option that holds the limits of every transaction. Without it, the limits of the session apply."""
_SINCE: Final = {"transaction_timeout": 170_000}
"""Limits that older servers do not have, and the version that brought them, as libpq writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The server's limits for a transaction; zero means no limit. The defaults are those of a command."""

    # Transactions are short, so a rival that needs longer has met a fault: the command answers TRY_AGAIN.
    lock: timedelta = timedelta(seconds=5)
    # One wait for a row, and as long again for the work. No statement of a command comes near this.
    statement: timedelta = timedelta(seconds=10)
    # Nothing remote is called in a transaction: a process that pauses for so long has stopped, and keeps its rows from all others.
    idle: timedelta = timedelta(seconds=10)
    # The longest command may wait for three rows, and work in between.
    transaction: timedelta = timedelta(seconds=20)

    def by_name(self, server_version: int) -> dict[str, int]:
        """PostgreSQL's names of the limits that this server knows, with milliseconds."""
        limits = {
            "lock_timeout": self.lock,
            "statement_timeout": self.statement,
            "idle_in_transaction_session_timeout": self.idle,
            "transaction_timeout": self.transaction,
        }
        return {
            name: round(limit.total_seconds() * 1000) for name, limit in limits.items() if server_version >= _SINCE.get(name, 0)
        }


@cache
def setting(limits: Limits, server_version: int) -> str:
    """The statements that set the limits of the transaction that is open."""
    return "".join(f"; SET LOCAL {name} = {milliseconds}" for name, milliseconds in limits.by_name(server_version).items())
