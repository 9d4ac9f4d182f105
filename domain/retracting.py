"""Takes back what a projection shows and the authority does not have: versions that are not there yet, and rows of nothing.

Such a row comes from a forged or broken event. The guarded upsert keeps it, because it looks newer than every real event. It is wrong for
certain: an event exists only after its authority is committed, and retention deletes the rows of both in one transaction. So nobody who
reads both in one statement sees a right row that is ahead of the authority, or that has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Delete, Select, Update, delete, exists, func, literal, or_, select, tuple_, update

from domain.projections.merging import NOTHING
from domain.projections.tables import IDENTITY, TABLES, Projection, header_of
from domain.rebuilding import AUTHORITIES, same_row

Key = tuple[UUID, UUID]
"""The tenant and the id of a row."""


class Page(NamedTuple):
    """A step of a walk: how many rows of the projection were read, which of them are wrong for certain, and where the next step begins."""

    read: int
    astray: Sequence[Key]
    last: Key


class Retracted(NamedTuple):
    """How many rows were put back to the version of the authority, and how many were removed because it has none."""

    put_back: int
    removed: int


def count_rows(connection: Connection, projection: Projection, tenant_id: UUID | None = None) -> int:
    """How many rows a walk has to read."""
    table = TABLES[projection]
    query = select(func.count()).select_from(table)
    return connection.scalar(query.where(table.c.tenant_id == tenant_id) if tenant_id else query) or 0


def look(connection: Connection, projection: Projection, after: Key, limit: int, tenant_id: UUID | None = None) -> Page:
    """Compare the next rows of a projection with the authority, by tenant and id; of one tenant only, unless it is None. Locks nothing."""
    table, key = TABLES[projection], _key(projection)
    page = select(table).where(tuple_(*key) > tuple_(*map(literal, after))).order_by(*key).limit(limit)
    shown = (page.where(key[0] == tenant_id) if tenant_id else page).subquery("shown")
    truth = AUTHORITIES[projection].rows.subquery("truth")
    names = (shown.c.tenant_id, shown.c[IDENTITY[projection]])
    query = select(*names, _is_astray(projection, shown, truth)).order_by(*names)
    rows = connection.execute(query.join_from(shown, truth, same_row(projection, truth, shown), isouter=True)).all()
    return Page(len(rows), [(row[0], row[1]) for row in rows if row[2]], (rows[-1][0], rows[-1][1]) if rows else after)


def retract(connection: Connection, projection: Projection, keys: Sequence[Key]) -> Retracted:
    """Set back each row that is still ahead of its quote or order, and delete each row whose quote or order still does not exist.

    It waits for nobody, and leaves what somebody has locked. First it locks the rows of the projection, so that no event is merged into them.
    Only then does it read the authority, by statements of their own, which see all that is committed by then. A version that comes later has
    no event yet: its event waits for the row, and finds an older version there, or none. So no row goes back behind an event that was merged.
    """
    locked = select(*_key(projection)).where(tuple_(*_key(projection)).in_(keys)).with_for_update(skip_locked=True)
    own = [(row[0], row[1]) for row in connection.execute(locked)]
    put_back = connection.execute(_put_back(projection, own)).rowcount if _has_version(projection) else 0
    return Retracted(put_back, connection.execute(_remove(projection, own)).rowcount)


def _put_back(projection: Projection, keys: Sequence[Key]) -> Update:
    table = TABLES[projection]
    truth = _true_rows(projection, keys).cte("truth")
    names = [column.name for column in header_of(projection) if column.name != IDENTITY[projection]]
    return (
        update(table)
        .where(same_row(projection, truth, table), table.c.aggregate_version > truth.c.aggregate_version)
        .values({name: truth.c[name] for name in names} | {"missing": NOTHING, "gap_since": None})
        .values(projected_at=func.clock_timestamp())
    )


def _true_rows(projection: Projection, keys: Sequence[Key]) -> Select[Any]:
    """The authority's rows, locked FOR SHARE: no command commits a newer version before the projection shows this one."""
    authority = AUTHORITIES[projection]
    table = authority.identity.table
    query = authority.rows.where(tuple_(table.c.tenant_id, authority.identity).in_(keys))
    return query.with_for_update(read=True, of=table, skip_locked=True)


def _remove(projection: Projection, keys: Sequence[Key]) -> Delete:
    table, identity = TABLES[projection], AUTHORITIES[projection].identity
    is_there = exists().where(identity.table.c.tenant_id == table.c.tenant_id, identity == table.c[IDENTITY[projection]])
    return delete(table).where(tuple_(*_key(projection)).in_(keys), ~is_there)


def _key(projection: Projection) -> tuple[ColumnElement[UUID], ColumnElement[UUID]]:
    table = TABLES[projection]
    return table.c.tenant_id, table.c[IDENTITY[projection]]


def _has_version(projection: Projection) -> bool:
    return "aggregate_version" in TABLES[projection].c


def _is_astray(projection: Projection, shown: Any, truth: Any) -> ColumnElement[bool]:
    is_of_nothing: ColumnElement[bool] = truth.c.tenant_id.is_(None)
    return or_(is_of_nothing, shown.c.aggregate_version > truth.c.aggregate_version) if _has_version(projection) else is_of_nothing
