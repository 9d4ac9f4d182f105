"""Projections: views that a consumer builds from events, each event once, and never backwards, in whatever order Kafka delivers them.

The inbox finds duplicates; the guarded upsert compares versions, and also handles a newest event that comes first
(docs/domain.md#events-and-projections).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import BigInteger, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Base, UnitOfWork, table_of


class ConsumerInbox(Base):
    """The inbox: its primary key is the deduplication."""

    __tablename__ = "consumer_inbox"
    consumer_name: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    processed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    event_type: Mapped[str]
    aggregate_id: Mapped[UUID]


class OrderSearchProjection(Base):
    """Orders as lists and searches see them."""

    __tablename__ = "order_search_projection"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_number: Mapped[str]
    quote_id: Mapped[UUID]
    customer_id: Mapped[str]
    status: Mapped[str]
    aggregate_version: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Consumed(StrEnum):
    """What an event did to a projection."""

    APPLIED = "APPLIED"
    DUPLICATE = "DUPLICATE"
    OUTDATED = "OUTDATED"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderChanged:
    """An order event as the projection needs it: the full header at one version."""

    consumer_name: str
    event_id: UUID
    event_type: str
    order_id: UUID
    aggregate_version: int
    order_number: str
    quote_id: UUID
    customer_id: str
    status: str


INBOX, SEARCH = table_of(ConsumerInbox), table_of(OrderSearchProjection)


def project_order(uow: UnitOfWork, event: OrderChanged) -> Consumed:
    """Record the event in the inbox and merge it into the search view, in one transaction."""
    header = {
        name: getattr(event, name)
        for name in ("order_id", "order_number", "quote_id", "customer_id", "status", "aggregate_version")
    }
    record = insert(INBOX).on_conflict_do_nothing().returning(INBOX.c.event_id)
    inbox_row = {
        "consumer_name": event.consumer_name,
        "event_id": event.event_id,
        "tenant_id": uow.tenant_id,
        "event_type": event.event_type,
        "aggregate_id": event.order_id,
    }
    if uow.connection.execute(record, inbox_row).one_or_none() is None:
        return Consumed.DUPLICATE
    upsert = insert(SEARCH).values(tenant_id=uow.tenant_id, **header)
    upsert = upsert.on_conflict_do_update(
        index_elements=[SEARCH.c.tenant_id, SEARCH.c.order_id],
        set_={name: upsert.excluded[name] for name in header} | {"updated_at": func.clock_timestamp()},
        where=SEARCH.c.aggregate_version < upsert.excluded.aggregate_version,
    )
    merged = uow.connection.execute(upsert.returning(SEARCH.c.order_id)).one_or_none()
    return Consumed.APPLIED if merged else Consumed.OUTDATED
