"""The next revision: the old one stays as evidence, its approval ends, and a copy goes on (docs/domain.md#quotes-and-revisions).

Every function here is called by a command that has locked the quote by a move of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.catalog import CATALOG
from domain.messages import Message
from domain.offers import approvals, prices, quotes
from domain.offers.quotes import Line, Quote, QuoteVersionConflict, StaleRevision
from domain.store import Guard, Move, UnitOfWork, param

EXPECTED_VERSION = Guard(QuoteVersionConflict, Quote.version == param("expected_version"))
CURRENT_REVISION = Guard(StaleRevision, Quote.current_revision_id == param("revision_id"))


def write_content(uow: UnitOfWork, revision_id: UUID, lines: Sequence[Line], content: str) -> UUID:
    """Make these the lines of a WORKING revision and check them against the catalog; returns the configuration result's id."""
    quotes.put_lines(uow, revision_id, lines)
    config_result_id = prices.configure(uow, revision_id, lines, content, CATALOG)
    quotes.change_revision(uow, revision_id, content_hash=content, config_result_id=config_result_id, price_result_id=None)
    return config_result_id


def supersede(  # noqa: PLR0917 - the old revision, and how its approval ends
    uow: UnitOfWork, quote: Row[Any], old_revision_id: UUID, content: str, ending: Move, message: Message
) -> None:
    """Open the next revision: the old one is void, its approval ends by `ending`, and its process gets `message`."""
    old = quotes.read_revision(uow, old_revision_id)
    quotes.change_revision(uow, old_revision_id, status=quotes.RevisionStatus.SUPERSEDED)
    quotes.open_revision(uow, quote.id, quote.current_revision_id, old.revision_no + 1, content)
    end_approval(uow, quote, old_revision_id, ending, message)


def end_approval(uow: UnitOfWork, quote: Row[Any], revision_id: UUID, ending: Move, message: Message) -> None:
    """End the approval of a revision: its request, the pending requirements, and its process."""
    if quotes.read_revision(uow, revision_id).frozen_at is None:
        return  # it was never submitted
    approvals.close_request(uow, revision_id, ending)
    message.correlate(uow, quotes.business_key(uow.tenant_id, quote.id, revision_id))
