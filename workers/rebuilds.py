"""Rebuilds a projection from the authority while everything runs (`q2o rebuild`).

The rule it keeps: each step is one short transaction, and no row goes back behind the authority, so the inbox goes on meanwhile. The first
walk follows the authority, and writes what the projection lacks or shows wrong; the second one follows the projection, and takes back what
the authority does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Engine as Database

from domain import rebuilding, retracting
from domain.projections.tables import Projection
from domain.retracting import Key, Retracted
from domain.store.unit_of_work import housekeeping
from workers.runtime.settings import SettingError

BATCH = 1_000  # a step takes some tens of milliseconds, and locks only rows that are wrong
# A command that changes such a row waits for the rest of one transaction, so that few rows share one.
TAKEN_BACK = 50


class Rebuilt(NamedTuple):
    """How many rows of the authority were read, and how many of them the projection had not, or had wrong.

    `put_back`: rows that were ahead of the authority. `removed`: rows that the authority does not have. `left`: such rows that others had
    locked.
    """

    read: int
    changed: int
    put_back: int = 0
    removed: int = 0
    left: int = 0


def projection_named(name: str) -> Projection:
    """Find a projection. Raises SettingError."""
    try:
        return Projection(name)
    except ValueError:
        raise SettingError(f"no such projection: {name}; there are {', '.join(Projection)}") from None


def rows_to_read(database: Database, projection: Projection, tenant_id: UUID | None) -> int:
    """How many rows a rebuild reads in the authority and in the projection, of one tenant or of all."""
    with housekeeping(database) as connection:
        return sum(walk.count_rows(connection, projection, tenant_id) for walk in (rebuilding, retracting))


def require_rows(database: Database, tenant_id: UUID) -> None:
    """Raise SettingError for a tenant that has no quote, order or decision. This login may read nothing else that shows that a tenant exists."""
    with housekeeping(database) as connection:
        if not any(rebuilding.count_rows(connection, each, tenant_id) for each in Projection):
            raise SettingError(
                f"no quote, order or decision is stored of tenant {tenant_id}: give another tenant by --tenant, or leave --tenant out"
            )


def rebuild(
    database: Database, projection: Projection, tenant_id: UUID | None, advanced: Callable[[int], object], *, batch: int = BATCH
) -> Rebuilt:
    """Rebuild every row, of one tenant or of all; tells after each step how many rows it has read. Raises the database's errors."""
    read, changed, after = 0, 0, rebuilding.START
    while True:
        with housekeeping(database) as connection:
            step = rebuilding.rebuild_batch(connection, projection, after, batch, tenant_id)
        if not step.read:
            return Rebuilt(read, changed, *_take_back(database, projection, tenant_id, advanced, batch))
        read, changed, after = read + step.read, changed + step.changed, step.last
        advanced(step.read)


def _take_back(
    database: Database, projection: Projection, tenant_id: UUID | None, advanced: Callable[[int], object], batch: int
) -> tuple[int, int, int]:
    put_back, removed, astray, after = 0, 0, 0, rebuilding.START
    while True:
        with housekeeping(database) as connection:
            page = retracting.look(connection, projection, after, batch, tenant_id)
        if not page.read:
            return put_back, removed, astray - put_back - removed
        for done in _retracted(database, projection, page.astray):
            put_back, removed = put_back + done.put_back, removed + done.removed
        astray, after = astray + len(page.astray), page.last
        advanced(page.read)


def _retracted(database: Database, projection: Projection, keys: Sequence[Key]) -> Iterator[Retracted]:
    for start in range(0, len(keys), TAKEN_BACK):
        with housekeeping(database) as connection:
            done = retracting.retract(connection, projection, keys[start : start + TAKEN_BACK])
        yield done
