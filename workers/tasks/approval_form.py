"""What an approver reads in form `approve-quote`: the offer, the changes since the last approval, and the decisions so far.

Text that people typed is escaped (`markdown`): a comment must never look like a part of the form.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import UTC
from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.catalog import CATALOG
from domain.offers.facts import ApprovalFacts, ShownFacts
from domain.offers.precedents import Precedent
from domain.offers.prices import LinePrice
from domain.offers.quotes import Line
from workers.runtime.variables import MAX_STRING, TypedValue, Variable, encode
from workers.tasks.markdown import moment, one_line, plain, table

SHOWN = (
    "quoteNumber",
    "revisionNo",
    "customerId",
    "customerText",
    "regionText",
    "ownerText",
    "paymentTermDays",
    "currency",
    "listTotal",
    "netTotal",
    "maxDiscountPercent",
    "marginPercent",
    "priceValidUntil",
    "priceStale",
    "comparedText",
    "linesText",
    "rulesText",
    "decisionsText",
    "requirementType",
    "because",
    "escalationNotice",
    "decisionRefused",
    "reminderNotice",
    "approverGroup",
    "escalationLevel",
    "remindAt",
    "dueAt",
)
LINES_HEAD = "| # | Offering | Quantity | Months | List | Discount | Net | Change |\n|---:|---|---:|---:|---:|---:|---:|---|\n"
DECISIONS_HEAD = "| When | Revision | Asked for | Decision | By | Reason | Comment |\n|---|---:|---|---|---|---|---|\n"


def shown(facts: ShownFacts, reused: Container[UUID]) -> dict[str, Variable]:
    """The variables in the form's texts, and those that say who is asked until when."""
    offer, requirement = facts.offer, facts.requirement
    quote, price = offer.quote, offer.price
    return {
        "quoteNumber": quote.quote_number,
        "revisionNo": offer.revision_no,
        "customerId": one_line(quote.customer_id),
        "customerText": plain(quote.customer_id),
        "regionText": plain(quote.region),
        "ownerText": plain(quote.owner_user_id),
        "paymentTermDays": quote.payment_term_days,
        "currency": price.currency,
        "listTotal": f"{price.list_total:.2f}",
        "netTotal": f"{price.net_total:.2f}",
        "maxDiscountPercent": float(price.max_discount_percent),
        "marginPercent": float(price.margin_percent),
        "priceValidUntil": moment(price.valid_until),
        "priceStale": offer.price_stale,
        "comparedText": _compared(offer),
        "linesText": table(LINES_HEAD, [*_lines(offer)]),
        "rulesText": _rules(facts.requirements, reused),
        "decisionsText": table(DECISIONS_HEAD, [_decision(row) for row in reversed(facts.decisions)]) if facts.decisions else "",
        "requirementType": requirement.type,
        "because": requirement.because,
        "escalationNotice": requirement.escalation_notice or "",
        "decisionRefused": requirement.refusal_notice or "",
        "reminderNotice": reminder(requirement) if requirement.reminded_at else "",
        "approverGroup": requirement.approver_group,
        "escalationLevel": requirement.escalation_level,
        "remindAt": requirement.remind_at.astimezone(UTC).isoformat(),
        "dueAt": requirement.due_at.astimezone(UTC).isoformat(),
    }


def reminder(requirement: Row[Any]) -> str:
    """What an approver reads after half of the time."""
    return f"Half of the time is gone. Please decide by {moment(requirement.due_at)}."


def later(requirement: Row[Any]) -> dict[str, TypedValue]:
    """What a worker writes into an open form: the reminder."""
    return encode({"reminderNotice": reminder(requirement)})


def _rules(requirements: Sequence[Row[Any]], reused: Container[UUID]) -> str:
    """Every rule that fired for the revision, and the group that it asks; empty for a single rule, which the form names anyway."""
    if len(requirements) <= 1:
        return ""
    return "\n".join(
        f"- {row.type}, level {row.level} ({'signature reused' if row.id in reused else row.approver_group}): {row.because}"
        for row in requirements
    )[:MAX_STRING]


def _compared(facts: ApprovalFacts) -> str:
    if facts.precedent is None:
        return "No revision of this quote was approved before."
    price, before = facts.price, facts.precedent.price
    return (
        f"Compared with revision {facts.precedent.revision_no}, the last one approved: "
        f"discount {price.max_discount_percent - before.max_discount_percent:+.2f} points, "
        f"margin {price.margin_percent - before.margin_percent:+.2f} points, "
        f"net {price.net_total - before.net_total:+.2f} {price.currency}."
    )


def _lines(facts: ApprovalFacts) -> Iterator[str]:
    before = _by_number(facts.precedent)
    for priced in facts.lines:
        change = _change(priced.line, before) if facts.precedent else ""
        yield _line(priced, change)
    now = {priced.line.line_no for priced in facts.lines}
    for line in before.values():
        if line.line_no not in now:
            yield f"| {line.line_no} | {_name(line)} | {line.quantity} | {line.term_months} | | | | **removed** |"


def _line(priced: LinePrice, change: str) -> str:
    line = priced.line
    return (
        f"| {line.line_no} | {_name(line)} | {line.quantity} | {line.term_months} | {priced.list_total:.2f} "
        f"| {line.discount_percent:.2f} % | {priced.net_total:.2f} | {change} |"
    )


def _by_number(precedent: Precedent | None) -> Mapping[int, Line]:
    return {line.line_no: line for line in precedent.lines} if precedent else {}


def _change(line: Line, before: Mapping[int, Line]) -> str:
    old = before.get(line.line_no)
    if old is None or old.product_offering_id != line.product_offering_id:
        return "**new**"
    was = {
        "quantity": (old.quantity, line.quantity),
        "months": (old.term_months, line.term_months),
        "discount": (f"{old.discount_percent:.2f} %", f"{line.discount_percent:.2f} %"),
    }
    changed = [f"{what} was {then}" for what, (then, now) in was.items() if then != now]
    return f"**{', '.join(changed)}**" if changed else ""


def _name(line: Line) -> str:
    return CATALOG.offerings[line.product_offering_id].name


def _decision(row: Row[Any]) -> str:
    cells = (
        moment(row.created_at),
        str(row.revision_no),
        f"{row.type}, level {row.level}",
        row.decision,
        *(plain(text) for text in (row.decided_by, row.reason_code, row.comment or "")),
    )
    return f"| {' | '.join(cells)} |"
