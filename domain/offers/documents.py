"""Documents: the offer as the customer gets it. A document proves which revision and price it shows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import UniqueConstraint, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped

from domain.offers import quotes
from domain.offers.prices import PriceResult
from domain.offers.quotes import Line, Quote
from domain.offers.quoting import CURRENT_PRICE
from domain.offers.revising import CURRENT_REVISION, EXPECTED_VERSION
from domain.store import Base, Check, Owned, UnitOfWork, append_only, as_json, ref, table_of


class QuoteDocument(Owned, Base):
    """The offer as the customer gets it; `sha256` is the hash of its content, which names revision and price."""

    __tablename__ = "quote_document"
    __table_args__ = (
        ref("quote_revision", of={"quote_id": "quote_id"}),
        ref("price_result", of={"quote_revision_id": "revision_id"}),
        UniqueConstraint("tenant_id", "quote_revision_id", "sha256"),
    )
    quote_id: Mapped[UUID]
    quote_revision_id: Mapped[UUID]
    price_result_id: Mapped[UUID]
    sha256: Mapped[str]
    content: Mapped[str]


append_only(QuoteDocument)

DOCUMENT = Check(Quote, "document", EXPECTED_VERSION, CURRENT_REVISION, CURRENT_PRICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueDocument:
    """Issue the document of a revision at a price."""

    quote_id: UUID
    expected_version: int
    revision_id: UUID
    price_result_id: UUID


def issue(uow: UnitOfWork, command: IssueDocument) -> UUID:
    """Issue a document and return its id; a repeat returns the same one. Raises the refusals of DOCUMENT."""
    quote = uow.require(DOCUMENT, command)
    priced = uow.read(PriceResult, command.price_result_id)
    lines = [
        {name: getattr(line, name) for name in Line.__dataclass_fields__} for line in quotes.read_lines(uow, command.revision_id)
    ]
    content = json.dumps(
        as_json(
            {
                "quote_number": quote.quote_number,
                "revision_id": command.revision_id,
                "price_result_id": command.price_result_id,
                "customer_id": quote.customer_id,
                "valid_until": quote.valid_until,
                "currency": priced.currency,
                "net_total": priced.net_total,
                "lines": lines,
            }
        ),
        sort_keys=True,
    )
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    document = table_of(QuoteDocument)
    names = {"quote_id": quote.id, "quote_revision_id": command.revision_id, "price_result_id": command.price_result_id}
    # Two transactions may have locked the quote FOR SHARE: the constraint decides which one writes, and both get the same document.
    row = {"tenant_id": uow.tenant_id, "id": uuid4(), **names, "sha256": sha256, "content": content}
    uow.connection.execute(insert(document).on_conflict_do_nothing(), row)
    known = select(document.c.id).filter_by(tenant_id=uow.tenant_id, quote_revision_id=command.revision_id, sha256=sha256)
    found: UUID = uow.connection.execute(known).scalar_one()
    return found
