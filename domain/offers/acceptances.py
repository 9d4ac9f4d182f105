"""Acceptances: what a customer accepted, when, and which order it created. Only `domain.accepting` writes them."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, append_only, ref


class QuoteAcceptance(Owned, Base):
    """What was accepted, by whom, and what was true at that moment. One for each revision, never changed.

    The price is of `price_book_version`; `active_price_book_version_seen` was the active version then, published at
    `active_version_published_at`.
    """

    __tablename__ = "quote_acceptance"
    __table_args__ = (
        ref("quote_revision", of={"quote_id": "quote_id"}),
        ref("price_result", of={"quote_revision_id": "revision_id"}),
        ref("approval_request", of={"quote_revision_id": "quote_revision_id"}),
        ref("quote_document", "document_id"),
        ref("sales_order", "order_id"),
        UniqueConstraint("tenant_id", "quote_revision_id"),
        Index("ix_quote_acceptance_order", "tenant_id", "order_id"),
        Index("ix_quote_acceptance_document", "tenant_id", "document_id"),
    )
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    price_result_id: Mapped[UUID]
    approval_request_id: Mapped[UUID]
    document_id: Mapped[UUID]
    price_book_version: Mapped[str]
    active_price_book_version_seen: Mapped[str]
    active_version_published_at: Mapped[datetime]
    staleness_policy: Mapped[str]
    accepted_by: Mapped[str]
    channel: Mapped[str]
    accepted_at: Mapped[datetime]
    order_id: Mapped[UUID]


append_only(QuoteAcceptance)
