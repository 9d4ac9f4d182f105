"""Leases on what a sweep has found, so that several reconcilers share the work (docs/domain.md#fair-shares-and-leases).

A finding gets a row here when it is taken, and loses it when it is settled. One that cannot be settled waits twice as long each time, and
lets the others through. Rows that wait by the thousand have columns of their own for this (`domain/store/claims.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, exists, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from domain.store.base import Base, table_of
from domain.store.claims import LONGEST_WAIT, NOW, one_more

FORGOTTEN_AFTER = timedelta(hours=1)  # far beyond the longest wait: what is still wrong has been taken again by then
DOUBLED = 5  # times; 2**5 first waits of two seconds are the longest wait


class ReconciliationLease(Base):
    """A finding of the sweep `kind`, about the row `subject_id`, that nobody else takes before `next_check_at`."""

    __tablename__ = "reconciliation_lease"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[UUID] = mapped_column(primary_key=True)
    next_check_at: Mapped[datetime]
    checks: Mapped[int] = mapped_column(server_default="1")


LEASE = table_of(ReconciliationLease)


def is_free(kind: str, table: Table, key: str = "id") -> ColumnElement[bool]:
    """Make the condition that nobody has leased a row of `table`, for the query of a sweep. `key` is the column with the row's id."""
    c = LEASE.c
    mine = (c.tenant_id == table.c.tenant_id) & (c.kind == kind) & (c.subject_id == table.c[key])
    return ~exists(select(c.kind).where(mine, c.next_check_at > NOW))


def take(connection: Connection, kind: str, rows: Collection[Row[Any]], lease: timedelta) -> list[Row[Any]]:
    """Lease those of these rows that are free, for `lease` or longer if earlier leases settled nothing; returns them in their order."""
    if not rows:
        return []
    # In one order, so that two reconcilers cannot wait for each other.
    keys = sorted({(row.tenant_id, row.id) for row in rows})
    new = insert(LEASE).values(
        [{"tenant_id": tenant, "kind": kind, "subject_id": subject, "next_check_at": NOW + lease} for tenant, subject in keys]
    )
    doubled = timedelta(seconds=2) * func.power(2, func.least(LEASE.c.checks, DOUBLED))
    wait = func.least(func.greatest(lease, doubled), LONGEST_WAIT)
    taken = new.on_conflict_do_update(
        index_elements=["tenant_id", "kind", "subject_id"],
        set_={"next_check_at": NOW + wait, "checks": one_more(LEASE.c.checks)},
        where=LEASE.c.next_check_at <= NOW,
    ).returning(LEASE.c.tenant_id, LEASE.c.subject_id)
    mine = {tuple(row) for row in connection.execute(taken)}
    return [row for row in rows if (row.tenant_id, row.id) in mine]


def end(connection: Connection, kind: str, rows: Sequence[Row[Any]]) -> None:
    """End the leases on what is settled, and forget those that nobody has needed for long."""
    c = LEASE.c
    settled = tuple_(c.tenant_id, c.subject_id).in_([(row.tenant_id, row.id) for row in rows])
    connection.execute(delete(LEASE).where(c.kind == kind, settled | (c.next_check_at < NOW - FORGOTTEN_AFTER)))
