"""A failover of the database, as the sessions of a pool meet it: the server of the open sessions becomes a standby."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


class Failover:
    """Sessions that are open when `happen` is called, are read-only from then on; new ones are too, until `end` is called."""

    def __init__(self) -> None:
        self.is_over = True
        self._read_only: set[int] = set()
        self._open: set[int] = set()

    def happen(self, *, with_a_new_primary: bool) -> None:
        """Turn every open session read-only. With a new primary, the next sessions take writes."""
        self._read_only |= self._open
        self.is_over = with_a_new_primary

    @property
    def is_in_use(self) -> bool:
        """Whether a session is open."""
        return bool(self._open)

    def end(self) -> None:
        """The next sessions take writes again."""
        self.is_over = True

    def connected(self, connection: Any, _record: object) -> None:
        pid = connection.info.backend_pid
        self._open.add(pid)
        if not self.is_over:
            self._read_only.add(pid)

    def taken(self, connection: Any, _record: object, _proxy: object) -> None:
        if not connection.closed and connection.info.backend_pid in self._read_only:
            connection.execute("SET default_transaction_read_only = on")
            connection.commit()


@contextmanager
def failover_of(pool: Engine) -> Iterator[Failover]:
    """Prepare a failover for one pool, which must not have been used."""
    failover = Failover()
    event.listen(pool, "connect", failover.connected)
    event.listen(pool, "checkout", failover.taken)
    yield failover
    event.remove(pool, "connect", failover.connected)
    event.remove(pool, "checkout", failover.taken)
