"""Configuration and price results: what one content of a revision is by the catalog and by a price book. They never change.

A price names the policy by which it goes stale (docs/domain.md#price-freshness); `price_still_acceptable` is that policy as one condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ColumnElement, Index, Numeric, Row, UniqueConstraint, exists, func, or_, select
from sqlalchemy.orm import Mapped, mapped_column

from domain.catalog import CATALOG, Catalog
from domain.errors import Conflict, Invalid, SafeAction
from domain.offers.price_books import ENTRY, HEAD, PUBLICATION
from domain.offers.quotes import Line, QuoteLine
from domain.store import Base, Owned, UnitOfWork, append_only, ref, table_of


class StalenessPolicy(StrEnum):
    """What a newer version of the price book means for an older price."""

    VALID_UNTIL_QUOTE_EXPIRY = "VALID_UNTIL_QUOTE_EXPIRY"
    REPRICE_REQUIRED_ON_PUBLISH = "REPRICE_REQUIRED_ON_PUBLISH"
    REPRICE_ON_MATERIAL_CHANGE = "REPRICE_ON_MATERIAL_CHANGE"
    APPROVAL_REQUIRED_IF_STALE = "APPROVAL_REQUIRED_IF_STALE"


class StalePrice(Conflict):
    """The price result is not the current one of this revision, or its policy says that it is out of date."""

    aggregate = "quote"
    safe_action = SafeAction.REPRICE


class StaleConfiguration(Conflict):
    """The configuration result is not the current one of this revision."""

    safe_action = SafeAction.RELOAD_AND_REAPPLY


class CatalogChanged(Conflict):
    """The configuration was checked against another catalog version."""

    safe_action = SafeAction.RECONFIGURE


class ConfigurationInvalid(Conflict):
    """The configuration breaks a rule of the catalog."""

    safe_action = SafeAction.RECONFIGURE


class PriceMissing(Invalid):
    """The price book has no price for an offering of this quote."""


class PriceTooLarge(Invalid):
    """The price of this quote is larger than an amount can be."""


LARGEST_AMOUNT = Decimal("999999999999.99")  # of a numeric(14, 2)


class ConfigurationResult(Owned, Base):
    """What the catalog says about one content. `messages` are sentences for people; there are none when it is valid."""

    __tablename__ = "configuration_result"
    __table_args__ = (ref("quote_revision", "revision_id"), Index("ix_configuration_result_revision", "tenant_id", "revision_id"))
    revision_id: Mapped[UUID]
    catalog_version: Mapped[str]
    input_hash: Mapped[str]
    valid: Mapped[bool]
    messages: Mapped[list[Any]]


class PriceResult(Owned, Base):
    """What one content costs by one price book version. Totals are over the whole term, the margin in percent of the net total."""

    __tablename__ = "price_result"
    __table_args__ = (
        ref("quote_revision", "revision_id"),
        ref("configuration_result", "config_result_id"),
        # Lets a row that names a revision and a price prove by a foreign key that they belong together.
        UniqueConstraint("tenant_id", "revision_id", "id"),
        Index("ix_price_result_configuration", "tenant_id", "config_result_id"),
        CheckConstraint(
            "staleness_policy IN ('VALID_UNTIL_QUOTE_EXPIRY', 'REPRICE_REQUIRED_ON_PUBLISH', "
            "'REPRICE_ON_MATERIAL_CHANGE', 'APPROVAL_REQUIRED_IF_STALE')",
            name="policy",
        ),
    )
    revision_id: Mapped[UUID]
    config_result_id: Mapped[UUID]
    price_book: Mapped[str]
    price_book_version: Mapped[str]
    catalog_version: Mapped[str]
    priced_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    valid_until: Mapped[datetime]
    staleness_policy: Mapped[str]
    input_hash: Mapped[str]
    currency: Mapped[str]
    list_total: Mapped[Decimal]
    net_total: Mapped[Decimal]
    max_discount_percent: Mapped[Decimal] = mapped_column(Numeric(5, 2))
    margin_percent: Mapped[Decimal] = mapped_column(Numeric(7, 2))


for evidence in (ConfigurationResult, PriceResult):
    append_only(evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePrice:
    """Money of one line over its whole term, in the quote's currency, not rounded."""

    line: Line
    list_total: Decimal
    net_total: Decimal
    cost_total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Money in the quote's currency, two decimals; percentages 0 to 100."""

    list_total: Decimal
    net_total: Decimal
    max_discount_percent: Decimal
    margin_percent: Decimal


def configure(uow: UnitOfWork, revision_id: UUID, lines: Sequence[Line], content: str, catalog: Catalog = CATALOG) -> UUID:
    """Check a content against the catalog and store the result; returns its id."""
    messages = [message for line in lines for message in _objections(line, lines, catalog)] or (
        [] if lines else ["The quote has no line."]
    )
    [result_id] = uow.add(
        ConfigurationResult,
        {
            "revision_id": revision_id,
            "catalog_version": catalog.catalog_version,
            "input_hash": content,
            "valid": not messages,
            "messages": messages,
        },
    )
    return result_id


def _objections(line: Line, lines: Sequence[Line], catalog: Catalog) -> list[str]:
    offering = catalog.offerings.get(line.product_offering_id)
    if offering is None:
        return [f"Line {line.line_no}: the catalog has no offering {line.product_offering_id}."]
    missing = offering.requires - {other.product_offering_id for other in lines}
    found = [f"Line {line.line_no}: {offering.name} needs {name} on the same quote." for name in sorted(missing)]
    if line.quantity > offering.max_quantity:
        found.append(f"Line {line.line_no}: at most {offering.max_quantity} of {offering.name} on one line.")
    return found


def calculate(uow: UnitOfWork, lines: Sequence[Line], price_book: str, price_book_version: str) -> Totals:
    """Add up a content by one price book version. Raises PriceMissing, PriceTooLarge."""
    return total(price_lines(uow, lines, price_book, price_book_version))


def price_lines(uow: UnitOfWork, lines: Sequence[Line], price_book: str, price_book_version: str) -> list[LinePrice]:
    """What each line costs by one price book version. Raises PriceMissing."""
    query = select(ENTRY.c.product_offering_id, ENTRY.c.list_price, ENTRY.c.unit_cost).filter_by(
        tenant_id=uow.tenant_id, price_book=price_book, price_book_version=price_book_version
    )
    entries = {row.product_offering_id: (row.list_price, row.unit_cost) for row in uow.connection.execute(query)}
    return [price_line(line, entries) for line in lines]


def price_line(line: Line, entries: Mapping[str, tuple[Decimal, Decimal]]) -> LinePrice:
    """Price x quantity x months, less the discount. Raises PriceMissing."""
    if line.product_offering_id not in entries:
        raise PriceMissing(f"The price book has no price for {line.product_offering_id}.")
    price, cost = entries[line.product_offering_id]
    volume = line.quantity * line.term_months
    net = price * volume * (100 - line.discount_percent) / 100
    return LinePrice(line=line, list_total=price * volume, net_total=net, cost_total=cost * volume)


def total(lines: Sequence[LinePrice]) -> Totals:
    """The sums; rounded half up to cents, once, at the end. Raises PriceTooLarge."""
    list_total, net_total, cost_total = (
        sum((getattr(line, name) for line in lines), Decimal(0)) for name in ("list_total", "net_total", "cost_total")
    )
    if _cents(list_total) > LARGEST_AMOUNT:
        raise PriceTooLarge
    margin = (net_total - cost_total) / net_total * 100 if net_total else Decimal(-100)
    return Totals(
        list_total=_cents(list_total),
        net_total=_cents(net_total),
        max_discount_percent=max((priced.line.discount_percent for priced in lines), default=Decimal(0)),
        margin_percent=max(_cents(margin), Decimal(-999)),
    )


def _cents(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)


def is_stale(uow: UnitOfWork, price: Row[Any]) -> bool:
    """Whether a newer price book version was published since (a hint for people, not a guard)."""
    query = select(HEAD.c.active_version).filter_by(tenant_id=uow.tenant_id, price_book=price.price_book)
    return bool(uow.one(query, "Price book").active_version != price.price_book_version)


def price_still_acceptable(price_result_id: Any, stale_price_was_approved: ColumnElement[bool]) -> ColumnElement[bool]:
    """The four policies as one condition. Sound because `accept` has locked the price book's head FOR SHARE; the rest is immutable."""
    price = table_of(PriceResult).alias("price")
    line = table_of(QuoteLine).alias("line")
    unchanged = exists(
        select(HEAD.c.active_version).where(
            HEAD.c.tenant_id == price.c.tenant_id,
            HEAD.c.price_book == price.c.price_book,
            HEAD.c.active_version == price.c.price_book_version,
        )
    )
    changed_materially = exists(
        select(PUBLICATION.c.price_book_version).where(
            PUBLICATION.c.tenant_id == price.c.tenant_id,
            PUBLICATION.c.price_book == price.c.price_book,
            PUBLICATION.c.published_at > price.c.priced_at,
            line.c.tenant_id == price.c.tenant_id,
            line.c.revision_id == price.c.revision_id,
            PUBLICATION.c.material_offering_ids.has_key(line.c.product_offering_id),  # JSONB's `?`
        )
    )
    policy = price.c.staleness_policy
    return exists(
        select(price.c.id).where(
            price.c.id == price_result_id,
            or_(
                policy == StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY,
                unchanged,
                (policy == StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE) & ~changed_materially,
                (policy == StalenessPolicy.APPROVAL_REQUIRED_IF_STALE) & stale_price_was_approved,
            ),
        )
    )
