"""Making an offer: create, edit, price, submit.

Every command names the version that it was decided on (docs/domain.md#principles). An edit after submission makes the next revision, and voids
the approval of the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import DateTime, Row, case, exists, func, select

from domain import messages
from domain.errors import Invalid
from domain.offers import price_books, prices, quotes, revising
from domain.offers.approvals import VOID_REQUEST
from domain.offers.prices import (
    CatalogChanged,
    ConfigurationInvalid,
    ConfigurationResult,
    PriceResult,
    StaleConfiguration,
    StalePrice,
)
from domain.offers.quotes import QUOTE_MATRIX, Line, Quote, QuoteEvent, QuoteExpired, QuoteRevision, QuoteStatus
from domain.offers.revising import CURRENT_REVISION, EXPECTED_VERSION
from domain.store import Guard, Move, UnitOfWork, is_one_of, param
from domain.workflows import starts

WORKFLOW = "quote-approval"
MOST_LINES = 200  # as many as one person can read through

CURRENT_CONFIGURATION = Guard(
    StaleConfiguration,
    exists(
        select(QuoteRevision.id).where(
            QuoteRevision.tenant_id == Quote.tenant_id,
            QuoteRevision.id == Quote.current_revision_id,
            QuoteRevision.config_result_id == param("config_result_id"),
        )
    ),
)
CURRENT_PRICE = Guard(
    StalePrice,
    exists(
        select(QuoteRevision.id)
        .join(PriceResult, (PriceResult.tenant_id == QuoteRevision.tenant_id) & (PriceResult.id == QuoteRevision.price_result_id))
        .where(
            QuoteRevision.tenant_id == Quote.tenant_id,
            QuoteRevision.id == Quote.current_revision_id,
            PriceResult.id == param("price_result_id"),
            PriceResult.input_hash == QuoteRevision.content_hash,
        )
    ),
)
CONFIGURATION_OF_THIS_CATALOG = Guard(
    CatalogChanged,
    exists(
        select(ConfigurationResult.id).where(
            ConfigurationResult.id == param("config_result_id"), ConfigurationResult.catalog_version == param("catalog_version")
        )
    ),
)
CONFIGURATION_VALID = Guard(
    ConfigurationInvalid,
    exists(select(ConfigurationResult.id).where(ConfigurationResult.id == param("config_result_id"), ConfigurationResult.valid)),
)

TIME = DateTime(timezone=True)
STILL_WORKING = is_one_of(Quote.status, QuoteStatus.DRAFT, QuoteStatus.PRICED)
EDIT = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.EDIT,
    EXPECTED_VERSION,
    CURRENT_REVISION,
    # An edit of an expired quote must renew it.
    Guard(QuoteExpired, (Quote.status != QuoteStatus.EXPIRED) | (param("valid_until", TIME) > func.clock_timestamp())),
    sets={
        Quote.current_revision_id: case((STILL_WORKING, Quote.current_revision_id), else_=param("next_revision_id")),
        Quote.valid_until: func.coalesce(param("valid_until", TIME), Quote.valid_until),
        Quote.reason_code: param("reason_code"),
        Quote.net_total: None,
    },
    emits="QuoteRevised",
    end_first=True,
)
PRICE = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.PRICE,
    EXPECTED_VERSION,
    CURRENT_CONFIGURATION,
    CONFIGURATION_OF_THIS_CATALOG,
    CONFIGURATION_VALID,
    sets={Quote.current_revision_id: case((STILL_WORKING, Quote.current_revision_id), else_=param("next_revision_id"))},
    emits="QuotePriced",
    end_first=True,
)
SUBMIT = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.SUBMIT,
    EXPECTED_VERSION,
    CURRENT_REVISION,
    CURRENT_CONFIGURATION,
    CURRENT_PRICE,
    Guard(QuoteExpired, Quote.valid_until > func.clock_timestamp()),
    emits="QuoteSubmitted",
    end_first=True,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateQuote:
    """A new offer. It expires at `valid_until`; lines are numbered from 1 in their order."""

    customer_id: str
    owner_user_id: str
    region: str
    currency: str
    payment_term_days: int
    valid_until: datetime
    lines: Sequence[Line]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChange:
    """New values for one line; None leaves a value as it is."""

    line_no: int
    quantity: int | None = None
    discount_percent: Decimal | None = None
    term_months: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditQuote:
    """A change of the offer. `term_months` applies to every line; `valid_until` renews the offer."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    reason_code: str
    term_months: int | None = None
    valid_until: datetime | None = None
    lines: Sequence[LineChange] = ()
    add_lines: Sequence[Line] = ()
    remove_lines: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceQuote:
    """Price the current configuration with the active version of a price book."""

    quote_id: UUID
    expected_version: int
    config_result_id: UUID
    catalog_version: str
    price_book: str = "STANDARD"
    staleness_policy: prices.StalenessPolicy = prices.StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitQuote:
    """Ask for approval of exactly this revision, configuration and price."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    config_result_id: UUID
    price_result_id: UUID


def create(uow: UnitOfWork, command: CreateQuote) -> Row[Any]:
    """Open a quote with its first revision. Raises Invalid when it has no line or ends in the past."""
    if not command.lines:
        raise Invalid("A quote needs at least one line.")
    _demand_future(uow, command.valid_until)
    quote_id, revision_id = uuid4(), uuid4()
    header = {name: getattr(command, name) for name in CreateQuote.__dataclass_fields__ if name != "lines"}
    quote = uow.create(
        Quote,
        reason="CREATE",
        emits="QuoteCreated",
        id=quote_id,
        status=QuoteStatus.DRAFT,
        current_revision_id=revision_id,
        **header,
    )
    content = quotes.content_hash(command.lines, command.payment_term_days, command.currency)
    quotes.open_revision(uow, quote_id, revision_id, 1, content)
    revising.write_content(uow, revision_id, command.lines, content)
    return quote


def edit(uow: UnitOfWork, command: EditQuote) -> Row[Any]:
    """Change the offer; after submission this makes the next revision. Raises the refusals of EDIT, Invalid, UnknownLine."""
    if command.valid_until is not None:
        _demand_future(uow, command.valid_until)
    next_revision_id = uuid4()
    quote = uow.apply(EDIT, command, next_revision_id=next_revision_id)
    lines = _edited(quotes.read_lines(uow, command.revision_id), command)
    content = quotes.content_hash(lines, quote.payment_term_days, quote.currency)
    if quote.current_revision_id == next_revision_id:
        revising.supersede(uow, quote, command.revision_id, content, VOID_REQUEST, messages.QUOTE_REVISION_SUPERSEDED)
    revising.write_content(uow, quote.current_revision_id, lines, content)
    return quote


def price(uow: UnitOfWork, command: PriceQuote) -> Row[Any]:
    """Price the current configuration. Raises the refusals of PRICE, PriceMissing."""
    active_version = price_books.share_head(uow, command.price_book).active_version
    next_revision_id, former = uuid4(), uow.read(Quote, command.quote_id).current_revision_id
    quote = uow.apply(PRICE, command, announce=False, next_revision_id=next_revision_id)
    config_result_id, lines = command.config_result_id, quotes.read_lines(uow, former)
    content = quotes.content_hash(lines, quote.payment_term_days, quote.currency)
    if quote.current_revision_id == next_revision_id:
        revising.supersede(uow, quote, former, content, VOID_REQUEST, messages.QUOTE_REVISION_SUPERSEDED)
        config_result_id = revising.write_content(uow, next_revision_id, lines, content)
    totals = prices.calculate(uow, lines, command.price_book, active_version)
    [price_result_id] = uow.add(
        PriceResult,
        {
            "revision_id": quote.current_revision_id,
            "config_result_id": config_result_id,
            "price_book": command.price_book,
            "price_book_version": active_version,
            "catalog_version": command.catalog_version,
            "valid_until": quote.valid_until,
            "staleness_policy": command.staleness_policy,
            "input_hash": content,
            "currency": quote.currency,
            **{name: getattr(totals, name) for name in prices.Totals.__dataclass_fields__},
        },
    )
    quotes.change_revision(uow, quote.current_revision_id, price_result_id=price_result_id)
    uow.change(Quote, quote.id, net_total=totals.net_total)
    uow.emit("quote", quote, "QuotePriced", net_total=totals.net_total)
    return quote


def submit(uow: UnitOfWork, command: SubmitQuote) -> Row[Any]:
    """Freeze the revision and start its approval. Raises the refusals of SUBMIT."""
    quote = uow.apply(SUBMIT, command)
    quotes.freeze(uow, command.revision_id)
    starts.begin(
        uow,
        starts.BeginWorkflow(
            workflow_name=WORKFLOW,
            aggregate_type="quote_revision",
            aggregate_id=command.revision_id,
            business_key=quotes.business_key(uow.tenant_id, command.quote_id, command.revision_id),
            variables={"quote_id": quote.id, "quote_revision_id": command.revision_id, "price_result_id": command.price_result_id},
        ),
    )
    return quote


def _demand_future(uow: UnitOfWork, valid_until: datetime) -> None:
    if uow.connection.scalar(select(func.clock_timestamp() >= valid_until)):
        raise Invalid("A quote cannot expire before it is offered: give a validUntil in the future.")


def _edited(lines: Sequence[Line], command: EditQuote) -> list[Line]:
    by_number = {line.line_no: line for line in lines}
    unknown = ({change.line_no for change in command.lines} | set(command.remove_lines)) - set(by_number)
    if unknown:
        raise quotes.UnknownLine(f"The revision has no line {min(unknown)}.")
    for change in command.lines:
        changed = {name: getattr(change, name) for name in ("quantity", "discount_percent", "term_months")}
        given = {name: value for name, value in changed.items() if value is not None}
        by_number[change.line_no] = replace(by_number[change.line_no], reason_code=command.reason_code, **given)
    kept = [line for number, line in by_number.items() if number not in command.remove_lines]
    start = max(by_number, default=0) + 1
    kept += [replace(line, line_no=number, reason_code=command.reason_code) for number, line in enumerate(command.add_lines, start)]
    if len(kept) > MOST_LINES:
        raise Invalid(f"A quote has at most {MOST_LINES} lines.")
    return [replace(line, term_months=command.term_months) for line in kept] if command.term_months else kept
