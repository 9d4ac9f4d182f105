"""Price books: prices by version, and the version that counts now (docs/domain.md#price-freshness).

A publication waits for the acceptances that are under way, or they see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Row, UniqueConstraint, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from domain.errors import AlreadyExists, Conflict, Invalid, SafeAction
from domain.store import Aggregate, Base, Guard, Matrix, Move, UnitOfWork, append_only, param, table_of


class PriceBookStatus(StrEnum):
    ACTIVE = "ACTIVE"


class PriceBookEvent(StrEnum):
    PUBLISH = "PUBLISH"


PRICE_BOOK_MATRIX = Matrix(
    PriceBookStatus,
    PriceBookEvent,
    moves={PriceBookEvent.PUBLISH: {PriceBookStatus.ACTIVE: PriceBookStatus.ACTIVE}},
)


class PriceBookConflict(Conflict):
    """Somebody else has published the price book in the meantime."""


class PriceBookVersionExists(Conflict):
    """This version of the price book was published before, and a published version never changes."""

    aggregate = "price_book_head"
    safe_action = SafeAction.CORRECT_THE_REQUEST


class PriceBookHead(Aggregate, Base):
    """The version of a price book that counts now. An acceptance locks it FOR SHARE, a publication updates it."""

    ID_FIELD = "price_book_head_id"
    __tablename__ = "price_book_head"
    __table_args__ = (PRICE_BOOK_MATRIX.check_status(), UniqueConstraint("tenant_id", "price_book"))
    price_book: Mapped[str]
    active_version: Mapped[str]
    published_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class PriceBookVersion(Base):
    """One publication, and the offerings whose price it changed materially."""

    __tablename__ = "price_book_version"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    price_book: Mapped[str] = mapped_column(primary_key=True)
    price_book_version: Mapped[str] = mapped_column(primary_key=True)
    material_offering_ids: Mapped[list[Any]]
    published_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class PriceBookEntry(Base):
    """Price and cost of an offering, per piece and month."""

    __tablename__ = "price_book_entry"
    __table_args__ = (CheckConstraint("list_price >= 0 AND unit_cost >= 0", name="amounts"),)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    price_book: Mapped[str] = mapped_column(primary_key=True)
    price_book_version: Mapped[str] = mapped_column(primary_key=True)
    product_offering_id: Mapped[str] = mapped_column(primary_key=True)
    list_price: Mapped[Decimal]
    unit_cost: Mapped[Decimal]


for evidence in (PriceBookVersion, PriceBookEntry):
    append_only(evidence)

HEAD, ENTRY, PUBLICATION = table_of(PriceBookHead), table_of(PriceBookEntry), table_of(PriceBookVersion)

PUBLISH = Move(
    PriceBookHead,
    PRICE_BOOK_MATRIX,
    PriceBookEvent.PUBLISH,
    Guard(PriceBookConflict, PriceBookHead.active_version == param("expected_active_version")),
    sets={PriceBookHead.active_version: param("price_book_version"), PriceBookHead.published_at: func.clock_timestamp()},
    emits="PriceBookPublished",
    key=PriceBookHead.price_book,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishPriceBook:
    """New prices. `expected_active_version` is None for the first publication; `entries` maps offering -> (price, cost)."""

    price_book: str
    expected_active_version: str | None
    price_book_version: str
    entries: Mapping[str, tuple[Decimal, Decimal]]
    material_offering_ids: Sequence[str] = ()


def share_head(uow: UnitOfWork, price_book: str) -> Row[Any]:
    """The head with its active version, locked until commit: a publication waits, or is seen. Raises NotFound."""
    query = select(*HEAD.c).filter_by(tenant_id=uow.tenant_id, price_book=price_book).with_for_update(read=True)
    return uow.one(query, f"Price book {price_book}")


def publish(uow: UnitOfWork, command: PublishPriceBook) -> Row[Any]:
    """Make a price book version the active one; returns the head.

    Raises PriceBookConflict when another version was published first, PriceBookVersionExists, Invalid, NotFound for a book without a first version.
    """
    unknown = set(command.material_offering_ids) - set(command.entries)
    if not command.entries or unknown:
        raise Invalid("A price book needs prices, and a price for every offering that it calls material.")
    head = _open(uow, command) if command.expected_active_version is None else uow.apply(PUBLISH, command)
    version = {
        "tenant_id": uow.tenant_id,
        "price_book": command.price_book,
        "price_book_version": command.price_book_version,
    }
    publication = insert(PUBLICATION).on_conflict_do_nothing().returning(PUBLICATION.c.price_book_version)
    material = {"material_offering_ids": list(command.material_offering_ids)}
    if uow.connection.execute(publication, {**version, **material}).one_or_none() is None:
        raise PriceBookVersionExists.about(head, current_version=head.version - 1)
    prices = [
        {**version, "product_offering_id": offering, "list_price": price, "unit_cost": cost}
        for offering, (price, cost) in command.entries.items()
    ]
    uow.connection.execute(insert(ENTRY), prices)
    return head


def _open(uow: UnitOfWork, command: PublishPriceBook) -> Row[Any]:
    try:
        return uow.create(
            PriceBookHead,
            reason="PUBLISH",
            emits="PriceBookPublished",
            status=PriceBookStatus.ACTIVE,
            price_book=command.price_book,
            active_version=command.price_book_version,
        )
    except AlreadyExists:
        raise PriceBookConflict(aggregate_type=HEAD.name) from None
