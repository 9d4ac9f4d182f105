"""The facts of an offer that is to be approved: what the policy decides by, and what an approver is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from domain.catalog import CATALOG
from domain.offers import precedents, prices, quotes
from domain.offers.approvals import ApprovalRequirement
from domain.offers.precedents import Precedent
from domain.offers.prices import LinePrice, PriceResult
from domain.offers.quotes import Quote
from domain.store import UnitOfWork, table_of

REQUIREMENT = table_of(ApprovalRequirement)
OF_QUOTE = ("quote_number", "customer_id", "region", "owner_user_id", "payment_term_days")
OF_PRICE = ("price_book_version", "currency", "list_total", "net_total", "max_discount_percent", "margin_percent", "valid_until")
OF_REQUIREMENT = ("type", "level", "approver_group", "min_authority", "because", "escalation_level")
OF_DECISION = ("revision_no", "type", "level", "decision", "decided_by", "reason_code", "comment", "created_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalFacts:
    """What the policy decides by, and what an approver sees. Percentages 0 to 100, money in the quote's currency.

    `precedent` is the last approved revision, `decisions` are those on the quote so far.
    """

    quote: Row[Any]
    price: Row[Any]
    revision_no: int
    lines: Sequence[LinePrice]
    product_family: str
    price_stale: bool
    precedent: Precedent | None
    decisions: Sequence[Row[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFacts:
    """What one approver is shown: the offer, the signature that is asked for, every signature of the request, the decisions before."""

    offer: ApprovalFacts
    requirement: Row[Any]
    requirements: Sequence[Row[Any]]
    decisions: Sequence[Row[Any]]

    def as_evidence(self) -> dict[str, Any]:
        """The facts in full, as they are kept with the decision."""
        offer = self.offer
        return {
            "requirement": _picked(self.requirement, OF_REQUIREMENT),
            "rules": [_picked(row, ("type", "level", "because")) for row in self.requirements],
            "quote": _picked(offer.quote, OF_QUOTE),
            "revision_no": offer.revision_no,
            "price": {**_picked(offer.price, OF_PRICE), "stale": offer.price_stale},
            "lines": [_priced(line) for line in offer.lines],
            "compared_with": _compared(offer.precedent),
            "decisions": [_picked(row, OF_DECISION) for row in self.decisions],
        }


def read(uow: UnitOfWork, quote_id: UUID, quote_revision_id: UUID, price_result_id: UUID) -> ApprovalFacts:
    """Read the facts of one revision at one price. Raises NotFound."""
    lines = quotes.read_lines(uow, quote_revision_id)
    price = uow.read(PriceResult, price_result_id)
    return ApprovalFacts(
        quote=uow.read(Quote, quote_id),
        price=price,
        revision_no=quotes.read_revision(uow, quote_revision_id).revision_no,
        lines=prices.price_lines(uow, lines, price.price_book, price.price_book_version),
        product_family=CATALOG.family_of(line.product_offering_id for line in lines),
        price_stale=prices.is_stale(uow, price),
        precedent=precedents.find(uow, quote_id, quote_revision_id),
        decisions=precedents.decisions(uow, quote_id),
    )


def shown_to_approver(uow: UnitOfWork, requirement: Row[Any], request: Row[Any]) -> ShownFacts:
    """Read what somebody is shown who is asked for this signature.

    Decisions of the same level are left out: people of one level decide at the same time, and none of them waits for another.
    """
    offer = read(uow, request.quote_id, request.quote_revision_id, request.price_result_id)
    query = select(*REQUIREMENT.c).filter_by(tenant_id=uow.tenant_id, request_id=request.id)
    requirements = uow.connection.execute(query.order_by(REQUIREMENT.c.level, REQUIREMENT.c.type)).all()
    beside = {row.id for row in requirements if row.level >= requirement.level}
    decisions = [row for row in offer.decisions if row.requirement_id not in beside]
    return ShownFacts(offer=offer, requirement=requirement, requirements=requirements, decisions=decisions)


def _picked(row: Any, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _priced(priced: LinePrice) -> dict[str, Any]:
    return {**asdict(priced.line), "list_total": priced.list_total, "net_total": priced.net_total}


def _compared(precedent: Precedent | None) -> dict[str, Any] | None:
    if precedent is None:
        return None
    totals = ("net_total", "max_discount_percent", "margin_percent")
    return {
        "revision_no": precedent.revision_no,
        **_picked(precedent.price, totals),
        "lines": [asdict(line) for line in precedent.lines],
    }
