"""Merges events into projections: each event once, and a row never goes back to an older version.

The inbox finds duplicates; the guarded upsert compares versions, and also handles a newest event that comes first. A version that is skipped
is noted in the row, and crossed out when its event arrives after all; reconciliation sees to those that stay (docs/domain.md#reconcilers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Insert,
    Update,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE, insert

from domain.projections.tables import IDENTITY, INBOX, TABLES, Projection, header_of
from domain.store import UnitOfWork

NOTHING: ColumnElement[Any] = literal_column("'{}'::int8multirange", INT8MULTIRANGE())


class Consumed(StrEnum):
    """What an event did to a projection. NO_PART: the projection shows nothing of such events."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    OUTDATED = "OUTDATED"
    NO_PART = "NO_PART"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event as the inbox records it."""

    consumer_name: str
    event_id: UUID
    event_type: str
    aggregate_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What an event says about a row: the full header, by column. An event of an older release may lack a member: it is not `is_whole`."""

    projection: Projection
    header: Mapping[str, Any]
    is_whole: bool = True


def consume(uow: UnitOfWork, seen: Seen, change: Change | None) -> Consumed:
    """Record the event in the inbox and merge its change (None: it has none) into the projection, in one transaction."""
    if not _claim(uow, seen):
        return Consumed.DUPLICATE
    if change is None:
        return Consumed.NO_PART
    row = {"tenant_id": uow.tenant_id, **change.header}
    if change.projection is Projection.DECISIONS:
        added = uow.connection.execute(_insert_once(change.projection), row).one_or_none()
        return Consumed.APPLIED if added else Consumed.OUTDATED
    return _merge(uow, change, row)


def _claim(uow: UnitOfWork, seen: Seen) -> bool:
    row = {"tenant_id": uow.tenant_id, **{name: getattr(seen, name) for name in Seen.__dataclass_fields__}}
    claim = insert(INBOX).on_conflict_do_nothing().returning(INBOX.c.event_id)
    return uow.connection.execute(claim, row).one_or_none() is not None


def _merge(uow: UnitOfWork, change: Change, row: Mapping[str, Any]) -> Consumed:
    merged = uow.connection.execute(_upsert(change.projection), {**row, "is_whole": change.is_whole}).one_or_none()
    if merged is not None:
        return Consumed.APPLIED
    names = ("tenant_id", IDENTITY[change.projection], "aggregate_version")
    uow.connection.execute(_cross_out(change.projection), {f"late_{name}": row[name] for name in names})
    uow.summary.note(actual_version=_version_shown(uow, change))
    return Consumed.OUTDATED


def _version_shown(uow: UnitOfWork, change: Change) -> int | None:
    table, identity = TABLES[change.projection], IDENTITY[change.projection]
    shown = select(table.c.aggregate_version).filter_by(**{"tenant_id": uow.tenant_id, identity: change.header[identity]})
    return uow.connection.scalar(shown)


@cache
def _insert_once(projection: Projection) -> Insert:
    table = TABLES[projection]
    return insert(table).on_conflict_do_nothing().returning(table.c.tenant_id)


@cache
def _upsert(projection: Projection) -> Insert:
    """The guarded upsert. The version of a header that is not whole counts as missing, so that the row is rebuilt."""
    table, identity = TABLES[projection], IDENTITY[projection]
    version = bindparam("aggregate_version", type_=BigInteger())
    own = case((cast(bindparam("is_whole"), Boolean), NOTHING), else_=_from_to(version, version + 1))
    first = _from_to(cast(1, BigInteger), version).op("+")(own)
    statement = insert(table).values(
        **{column.name: bindparam(column.name, type_=column.type) for column in header_of(projection)},
        tenant_id=bindparam("tenant_id"),
        missing=first,
        gap_since=case((first != NOTHING, func.clock_timestamp())),
    )
    skipped = _from_to(table.c.aggregate_version + 1, statement.excluded.aggregate_version)
    missing = table.c.missing.op("+")(skipped).op("+")(own)
    return statement.on_conflict_do_update(
        index_elements=[table.c.tenant_id, table.c[identity]],
        set_={
            **{column.name: statement.excluded[column.name] for column in header_of(projection) if column.name != identity},
            "missing": missing,
            "gap_since": case((missing != NOTHING, func.coalesce(table.c.gap_since, func.clock_timestamp()))),
            "projected_at": func.clock_timestamp(),
        },
        where=table.c.aggregate_version < statement.excluded.aggregate_version,
    ).returning(table.c.tenant_id)


@cache
def _cross_out(projection: Projection) -> Update:
    """Cross the version of a late event off the list of missing ones."""
    table, identity = TABLES[projection], IDENTITY[projection]
    version = bindparam("late_aggregate_version", type_=BigInteger())
    left = table.c.missing.op("-")(_from_to(version, version + 1))
    return (
        update(table)
        .where(table.c.tenant_id == bindparam("late_tenant_id"), table.c[identity] == bindparam(f"late_{identity}"))
        .where(table.c.missing.op("@>")(version))
        .values(missing=left, gap_since=case((left != NOTHING, table.c.gap_since)))
    )


def _from_to(first: ColumnElement[int], beyond: ColumnElement[int]) -> ColumnElement[Any]:
    """The versions from `first` to right before `beyond`; none when they are equal."""
    return func.int8multirange(func.int8range(first, beyond), type_=INT8MULTIRANGE())
