"""The tables of the consumers: the inbox, and one table for each projection.

A projection of an aggregate holds the header that the events carry, at the newest version that was seen. `missing` holds the versions that
were skipped, since `gap_since`: the header itself is whole, but an event has not arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar, Final
from uuid import UUID

from sqlalchemy import BigInteger, Column, Index, Table, func, text
from sqlalchemy.dialects.postgresql import INT8MULTIRANGE
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Base, table_of

OF_THE_VIEW: Final = frozenset({"tenant_id", "missing", "gap_since", "projected_at"})
"""Columns that are no part of the header: they say how the view got it."""


class ConsumerInbox(Base):
    """The inbox: its primary key is the deduplication."""

    __tablename__ = "consumer_inbox"
    __table_args__ = (Index("ix_consumer_inbox_old", "processed_at"),)
    consumer_name: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    tenant_id: Mapped[UUID]
    processed_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    event_type: Mapped[str]
    aggregate_id: Mapped[UUID]


HAS_GAP = "gap_since IS NOT NULL"


class Header:
    """A projection of an aggregate: one row for each, at its newest version. `ID` is the column of the aggregate's id."""

    ID: ClassVar[str]

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-10)
    aggregate_version: Mapped[int] = mapped_column(BigInteger, sort_order=80)
    created_at: Mapped[datetime] = mapped_column(sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(sort_order=91)
    missing: Mapped[Any] = mapped_column(INT8MULTIRANGE, server_default="{}", sort_order=92)
    gap_since: Mapped[datetime | None] = mapped_column(sort_order=93)
    projected_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=94)


def _found_by(table: str, identity: str, *orders: str) -> list[Index]:
    """An index for each order in which a list is read or filtered, and one for the gaps. The id makes every order total."""
    indexes = [Index(f"ix_{table}_{order.replace(' ', '_')}", "tenant_id", *order.split(), identity) for order in orders]
    return [*indexes, Index(f"ix_{table}_gap", "tenant_id", "gap_since", postgresql_where=text(HAS_GAP))]


class QuoteSearch(Header, Base):
    """Quotes as lists and searches see them."""

    ID = "quote_id"
    __tablename__ = "quote_search"
    __table_args__ = (
        *_found_by(
            "quote_search",
            "quote_id",
            *("created_at", "updated_at", "valid_until", "quote_number"),
            *("customer_id created_at", "status created_at"),
        ),
    )
    quote_id: Mapped[UUID] = mapped_column(primary_key=True)
    quote_number: Mapped[str]
    status: Mapped[str]
    customer_id: Mapped[str]
    owner_user_id: Mapped[str]
    region: Mapped[str]
    currency: Mapped[str]
    payment_term_days: Mapped[int]
    current_revision_id: Mapped[UUID]
    valid_until: Mapped[datetime]
    reason_code: Mapped[str | None]
    net_total: Mapped[Decimal | None]


class OrderSearchProjection(Header, Base):
    """Orders as lists and searches see them."""

    ID = "order_id"
    __tablename__ = "order_search_projection"
    __table_args__ = (
        *_found_by(
            "order_search_projection",
            "order_id",
            *("created_at", "updated_at", "requested_completion", "order_number", "quote_id"),
            *("customer_id created_at", "status created_at"),
        ),
    )
    order_id: Mapped[UUID] = mapped_column(primary_key=True)
    order_number: Mapped[str]
    order_kind: Mapped[str]
    status: Mapped[str]
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    customer_id: Mapped[str]
    priority: Mapped[int]
    requested_completion: Mapped[datetime | None]
    hold_reason: Mapped[str | None]
    currency: Mapped[str | None]
    net_total: Mapped[Decimal | None]


class ApprovalDecisionProjection(Base):
    """Decisions on quotes, one row for each: how many there are is counted from the rows, so an event that comes twice counts once."""

    __tablename__ = "quote_approval_projection_decision"
    __table_args__ = (
        Index("ix_quote_approval_projection_decision_revision", "tenant_id", "quote_id", "quote_revision_id", "decision"),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    approval_decision_id: Mapped[UUID] = mapped_column(primary_key=True)
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    price_result_id: Mapped[UUID]
    requirement_id: Mapped[UUID]
    type: Mapped[str]
    level: Mapped[int]
    decision: Mapped[str]
    decided_by: Mapped[str]
    reason_code: Mapped[str]
    decided_at: Mapped[datetime]
    projected_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class Projection(StrEnum):
    """The projections, by the names that `q2o rebuild` and the metrics give them."""

    QUOTES = "quote_search"
    ORDERS = "order_search"
    DECISIONS = "approval_decisions"


INBOX = table_of(ConsumerInbox)
TABLES: Final[Mapping[Projection, Table]] = {
    Projection.QUOTES: table_of(QuoteSearch),
    Projection.ORDERS: table_of(OrderSearchProjection),
    Projection.DECISIONS: table_of(ApprovalDecisionProjection),
}
IDENTITY: Final[Mapping[Projection, str]] = {
    Projection.QUOTES: QuoteSearch.ID,
    Projection.ORDERS: OrderSearchProjection.ID,
    Projection.DECISIONS: "approval_decision_id",
}
"""The column that identifies a row within its tenant."""


def header_of(projection: Projection) -> Sequence[Column[Any]]:
    """The columns that come from events, or from the authority in a rebuild."""
    return [column for column in TABLES[projection].columns if column.name not in OF_THE_VIEW]
