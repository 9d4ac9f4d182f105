"""Taking an offer back before it is accepted: recall it from approval, decline it, cancel it, let it expire.

Each ends the open approval of the revision, in the domain at once and in the engine by a message (docs/domain.md#quotes-and-revisions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, func, select

from domain import messages
from domain.errors import Conflict, InvalidTransition, SafeAction
from domain.offers import quotes, revising
from domain.offers.approvals import EXPIRE_REQUEST, RECALL_REQUEST, VOID_REQUEST
from domain.offers.quotes import EXPIRING_SQL, QUOTE_MATRIX, Quote, QuoteEvent, QuoteExpired, QuoteStatus
from domain.offers.revising import CURRENT_REVISION, EXPECTED_VERSION
from domain.store import Guard, Move, UnitOfWork, param, table_of
from domain.store.claims import NOW, Groups, fairly
from domain.store.leases import is_free


class QuoteStillValid(Conflict):
    """The quote has not expired: it was renewed, or is still valid."""

    safe_action = SafeAction.NOTHING_TO_DO


BECAUSE = {Quote.reason_code: param("reason_code")}

RECALL = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.RECALL,
    EXPECTED_VERSION,
    CURRENT_REVISION,
    sets={**BECAUSE, Quote.current_revision_id: param("next_revision_id"), Quote.net_total: None},
    emits="QuoteRecalled",
    end_first=True,
)
DECLINE = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.DECLINE,
    Guard(QuoteExpired, Quote.valid_until > func.clock_timestamp()),
    EXPECTED_VERSION,
    CURRENT_REVISION,
    sets=BECAUSE,
    emits="QuoteDeclined",
    end_first=True,
)
CANCEL = Move(Quote, QUOTE_MATRIX, QuoteEvent.CANCEL, EXPECTED_VERSION, CURRENT_REVISION, sets=BECAUSE, emits="QuoteCancelled")
EXPIRE = Move(
    Quote,
    QUOTE_MATRIX,
    QuoteEvent.EXPIRE,
    EXPECTED_VERSION,
    Guard(QuoteStillValid, Quote.valid_until <= func.clock_timestamp()),
    emits="QuoteExpired",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallQuote:
    """Take a revision back from its approvers; a copy goes on as the next revision, which can be edited."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclineQuote:
    """The customer declines the approved revision."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelQuote:
    """Sales gives up the offer for good."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    reason_code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireQuote:
    """A quote is past `valid_until`. `expected_version` is the version that was found so."""

    quote_id: UUID
    expected_version: int


def recall(uow: UnitOfWork, command: RecallQuote) -> Row[Any]:
    """Make the next revision from the one in approval, and end that approval. Raises the refusals of RECALL."""
    next_revision_id = uuid4()
    quote = uow.apply(RECALL, command, next_revision_id=next_revision_id)
    lines = quotes.read_lines(uow, command.revision_id)
    content = quotes.content_hash(lines, quote.payment_term_days, quote.currency)
    revising.supersede(uow, quote, command.revision_id, content, RECALL_REQUEST, messages.QUOTE_APPROVAL_RECALLED)
    revising.write_content(uow, next_revision_id, lines, content)
    return quote


def decline(uow: UnitOfWork, command: DeclineQuote) -> Row[Any]:
    """Record that the customer declines; an edit makes another offer of it. Raises the refusals of DECLINE."""
    return uow.apply(DECLINE, command)


def cancel(uow: UnitOfWork, command: CancelQuote) -> Row[Any]:
    """Cancel a quote; a repeat changes nothing. Raises the refusals of CANCEL."""
    try:
        quote = uow.apply(CANCEL, command)
    except InvalidTransition as refusal:
        return _as_it_is(uow, refusal, QuoteStatus.CANCELLED)
    revising.end_approval(uow, quote, command.revision_id, VOID_REQUEST, messages.QUOTE_CANCELLED)
    return quote


def expire(uow: UnitOfWork, command: ExpireQuote) -> Row[Any]:
    """Let a quote expire that is past `valid_until`; a repeat changes nothing. Raises the refusals of EXPIRE."""
    try:
        quote = uow.apply(EXPIRE, command)
    except InvalidTransition as refusal:
        return _as_it_is(uow, refusal, QuoteStatus.EXPIRED)
    revising.end_approval(uow, quote, quote.current_revision_id, EXPIRE_REQUEST, messages.QUOTE_EXPIRED)
    return quote


def _as_it_is(uow: UnitOfWork, refusal: InvalidTransition, status: QuoteStatus) -> Row[Any]:
    # The guards are true, so this is the version that the caller has seen, and nothing is left to do (`=` in the matrix).
    if refusal.current_status != status or refusal.aggregate_id is None:
        raise refusal
    quote = uow.read(Quote, refusal.aggregate_id)
    uow.summary.repeat("quote", quote)
    return quote


def expired_quotes(connection: Connection, limit: int) -> list[Row[Any]]:
    """Quotes past their end that are still open, and that no reconciler has leased: in turns between tenants, the longest overdue first."""
    quote = table_of(Quote)
    query = select(*quote.c).where(quote.c.valid_until <= NOW, is_free("quote", quote))
    groups = Groups(by=(quote.c.tenant_id,), among=f"status IN ({EXPIRING_SQL})")
    return list(connection.execute(select(fairly(query, groups, quote.c.valid_until, limit))))
