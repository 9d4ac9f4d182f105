"""Rebuilds a projection from the authority while everything runs (`q2o rebuild`).

The rule it keeps: each step is one short transaction, and no row goes back to an older version, so the inbox goes on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine as Database

from domain import rebuilding
from domain.projections.tables import Projection
from domain.store.unit_of_work import housekeeping
from workers.runtime.settings import SettingError

BATCH = 1_000  # a step takes some tens of milliseconds, and locks only rows that are wrong


class Rebuilt(NamedTuple):
    """How many rows were read, and how many of them the projection had not, or had wrong."""

    read: int
    changed: int


def projection_named(name: str) -> Projection:
    """Find a projection. Raises SettingError."""
    try:
        return Projection(name)
    except ValueError:
        raise SettingError(f"no such projection: {name}; there are {', '.join(Projection)}") from None


def rows_to_read(database: Database, projection: Projection, tenant_id: UUID | None) -> int:
    """How many rows a rebuild reads, of one tenant or of all."""
    with housekeeping(database) as connection:
        return rebuilding.count_rows(connection, projection, tenant_id)


def rebuild(
    database: Database, projection: Projection, tenant_id: UUID | None, advanced: Callable[[int], object], *, batch: int = BATCH
) -> Rebuilt:
    """Rebuild every row, of one tenant or of all; tells after each step how many rows it has read. Raises the database's errors."""
    read, changed, after = 0, 0, rebuilding.START
    while True:
        with housekeeping(database) as connection:
            step = rebuilding.rebuild_batch(connection, projection, after, batch, tenant_id)
        if not step.read:
            return Rebuilt(read, changed)
        read, changed, after = read + step.read, changed + step.changed, step.last
        advanced(step.read)
