"""Leases on what a sweep has found, so that several reconcilers share the work (docs/domain.md#fair-shares-and-leases).

A finding gets a row here when it is taken, and loses it when it is settled. One that cannot be settled waits twice as long each time, and
lets the others through. Rows that wait by the thousand have columns of their own for this (`domain/store/claims.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, delete, exists, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from domain.store.base import Base, table_of
from domain.store.claims import LONGEST_WAIT, NOW, one_more

FORGOTTEN_AFTER = timedelta(hours=1)  # far beyond the longest wait: what is still wrong has been taken again by then
DOUBLED = 5  # times; 2**5 first waits of two seconds are the longest wait
Key: TypeAlias = tuple[UUID, UUID]
Taken: TypeAlias = Mapping[Key, datetime]
"""Tenant and id of each leased row -> when its lease ends, which proves whose lease it is."""


class ReconciliationLease(Base):
    """A finding of the sweep `kind`, about the row `subject_id`, that nobody else takes before `next_check_at`."""

    __tablename__ = "reconciliation_lease"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    next_check_at: Mapped[datetime]
    checks: Mapped[int] = mapped_column(server_default="1")


LEASE = table_of(ReconciliationLease)
KEY = (LEASE.c.tenant_id, LEASE.c.subject_id)  # of the leases of one sweep


def is_free(kind: str, table: Table, key: str = "id") -> ColumnElement[bool]:
    """Make the condition that nobody has leased a row of `table`, for the query of a sweep. `key` is the column with the row's id."""
    c = LEASE.c
    mine = (c.tenant_id == table.c.tenant_id) & (c.kind == kind) & (c.subject_id == table.c[key])
    return ~exists(select(c.kind).where(mine, c.next_check_at > NOW))


def key_of(row: Row[Any]) -> Key:
    """The key of a row: its tenant and its id."""
    return row.tenant_id, row.id


def take(connection: Connection, kind: str, rows: Collection[Row[Any]], lease: timedelta) -> Taken:
    """Lease those of these rows that are free, for `lease` or longer if earlier leases settled nothing."""
    if not rows:
        return {}
    # In one order, so that two reconcilers cannot wait for each other.
    keys = sorted({key_of(row) for row in rows})
    new = insert(LEASE).values(
        [{"tenant_id": tenant, "kind": kind, "subject_id": subject, "next_check_at": NOW + lease} for tenant, subject in keys]
    )
    doubled = timedelta(seconds=2) * func.power(2, func.least(LEASE.c.checks, DOUBLED))
    wait = func.least(func.greatest(lease, doubled), LONGEST_WAIT)
    taken = new.on_conflict_do_update(
        index_elements=["tenant_id", "kind", "subject_id"],
        set_={"next_check_at": NOW + wait, "checks": one_more(LEASE.c.checks)},
        where=LEASE.c.next_check_at <= NOW,
    ).returning(LEASE.c.tenant_id, LEASE.c.subject_id, LEASE.c.next_check_at)
    return {(tenant, subject): end for tenant, subject, end in connection.execute(taken)}


def give_back(connection: Connection, kind: str, taken: Taken) -> None:
    """Give back leases on what nobody has looked at: it is free at once. What another reconciler has leased since stays leased."""
    c = LEASE.c
    back = update(LEASE).where(c.kind == kind, tuple_(*KEY).in_(_unlocked(kind, _are_of(taken))))
    connection.execute(back.values(next_check_at=NOW, checks=c.checks - 1))


def end(connection: Connection, kind: str, taken: Taken) -> None:
    """End these leases, because what they are on is settled, and forget those that nobody has needed for long."""
    over = _are_of(taken) | (LEASE.c.next_check_at < NOW - FORGOTTEN_AFTER)
    connection.execute(delete(LEASE).where(LEASE.c.kind == kind, tuple_(*KEY).in_(_unlocked(kind, over))))


def _are_of(taken: Taken) -> ColumnElement[bool]:
    return tuple_(*KEY, LEASE.c.next_check_at).in_([(*key, end) for key, end in taken.items()])


def _unlocked(kind: str, which: ColumnElement[bool]) -> Select[tuple[UUID, UUID]]:
    """Make the query of these leases, without those that another reconciler is just taking: otherwise each could wait for the other."""
    return select(*KEY).where(LEASE.c.kind == kind, which).with_for_update(skip_locked=True)
