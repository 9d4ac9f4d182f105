"""The register of archive files, and the key under which each customer's personal data are sealed in them (decision 0039).

A file that is not registered here is no file: whatever a writer left behind before it registered may be deleted by hand.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Index, Row, UniqueConstraint, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, table_of

KEY_BYTES = 64  # AES-SIV with 256 bits takes two keys


class ArchiveFile(Owned, Base):
    """One file of a tenant's archive. `settled_at` None: rows that stand in it may still be in the tables."""

    __tablename__ = "archive_file"
    __table_args__ = (
        UniqueConstraint("tenant_id", "sequence"),
        Index("ix_archive_file_unsettled", "tenant_id", postgresql_where=text("settled_at IS NULL")),
    )
    sequence: Mapped[int]
    name: Mapped[str]
    lines: Mapped[int]
    first_hash: Mapped[str]
    last_hash: Mapped[str]
    settled_at: Mapped[datetime | None]


class CustomerKey(Owned, Base):
    """What encrypts a customer's personal data in archives. Without this row nobody reads them any more."""

    __tablename__ = "customer_key"
    __table_args__ = (UniqueConstraint("tenant_id", "customer_id"),)
    customer_id: Mapped[str]
    key: Mapped[bytes]


FILE, KEY = table_of(ArchiveFile), table_of(CustomerKey)


def beginning(tenant_id: UUID) -> str:
    """The hash before the first line of a tenant's archive."""
    return hashlib.sha256(f"archive of tenant {tenant_id}".encode()).hexdigest()


def files_of(connection: Connection, tenant_id: UUID) -> Sequence[Row[Any]]:
    """All registered files of a tenant, in their order."""
    return connection.execute(select(*FILE.c).where(FILE.c.tenant_id == tenant_id).order_by(FILE.c.sequence)).all()


def last_file(connection: Connection, tenant_id: UUID) -> Row[Any] | None:
    """The file that the next one continues."""
    query = select(*FILE.c).where(FILE.c.tenant_id == tenant_id).order_by(FILE.c.sequence.desc()).limit(1)
    return connection.execute(query).one_or_none()


def has_files(connection: Connection, tenant_ids: Collection[UUID] | None = None) -> bool:
    """Whether these tenants have a registered archive file. None stands for every tenant that the transaction can see."""
    query = select(FILE.c.id).limit(1)
    if tenant_ids is not None:
        query = query.where(FILE.c.tenant_id.in_(tenant_ids))
    return connection.execute(query).first() is not None


def unsettled(connection: Connection) -> Sequence[Row[Any]]:
    """The files whose rows may still be in the tables, of every tenant that the transaction sees."""
    return connection.execute(select(*FILE.c).where(FILE.c.settled_at.is_(None)).order_by(FILE.c.tenant_id, FILE.c.sequence)).all()


def register(connection: Connection, tenant_id: UUID, sequence: int, **file: Any) -> bool:
    """Register a file that was written and read back. False: another writer has this place, and this file counts for nothing."""
    row = {"tenant_id": tenant_id, "id": uuid4(), "sequence": sequence, **file}
    return connection.execute(insert(FILE).on_conflict_do_nothing().returning(FILE.c.id), row).one_or_none() is not None


def settle(connection: Connection, file: Row[Any]) -> None:
    """Record that no row of this file has to be deleted any more."""
    connection.execute(
        update(FILE).where(FILE.c.tenant_id == file.tenant_id, FILE.c.id == file.id).values(settled_at=func.clock_timestamp())
    )


def keys_for(connection: Connection, tenant_id: UUID, customers: Collection[str]) -> dict[str, Row[Any]]:
    """The key of each customer; makes those that are missing."""
    if customers:
        rows = [
            {"tenant_id": tenant_id, "id": uuid4(), "customer_id": customer, "key": secrets.token_bytes(KEY_BYTES)}
            for customer in sorted(customers)
        ]
        connection.execute(insert(KEY).on_conflict_do_nothing(), rows)
    query = select(*KEY.c).where(KEY.c.tenant_id == tenant_id, KEY.c.customer_id.in_(customers))
    return {row.customer_id: row for row in connection.execute(query)}


def keys_of(connection: Connection, tenant_id: UUID) -> dict[str, bytes]:
    """The keys of a tenant that are left, by their ids."""
    return {str(row.id): bytes(row.key) for row in connection.execute(select(*KEY.c).where(KEY.c.tenant_id == tenant_id))}
