"""One transaction on a pool, for a tenant; it leaves nothing unless the block commits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Connection
from sqlalchemy import Engine as Database

from domain.store.isolation import EveryTenant, open_for


@contextmanager
def transaction(database: Database, tenant: UUID | EveryTenant, mode: str = "", *, by_index: bool = False) -> Iterator[Connection]:
    """Open a transaction that names its tenant and has the limits of the pool; `mode` and `by_index` as in `open_for`."""
    with database.connect() as connection:
        connection.begin()
        open_for(connection, tenant, mode, by_index=by_index)
        yield connection
