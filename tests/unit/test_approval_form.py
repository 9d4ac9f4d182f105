"""The text of the approval form: changes are marked, input never becomes Markdown, and no text is longer than the engine stores."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from domain.catalog import FIBRE, ROUTER, SUPPORT
from domain.offers.facts import ApprovalFacts, ShownFacts
from domain.offers.precedents import Precedent
from domain.offers.prices import price_line
from domain.offers.quotes import Line
from workers.runtime.variables import MAX_STRING, encode
from workers.tasks import approval_form
from workers.tasks.markdown import plain

PRICES = {FIBRE: (Decimal(80), Decimal(40)), ROUTER: (Decimal(12), Decimal(6)), SUPPORT: (Decimal(15), Decimal(5))}
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def line(line_no: int, offering: str = FIBRE, **changes: Any) -> Line:
    given = {"quantity": 1, "term_months": 12, "discount_percent": Decimal(20), **changes}
    return Line(line_no=line_no, product_offering_id=offering, **given)


def price(**changes: Any) -> Any:
    given = {
        "list_total": Decimal("960.00"),
        "net_total": Decimal("768.00"),
        "max_discount_percent": Decimal("20.00"),
        "margin_percent": Decimal("37.50"),
        "currency": "EUR",
        "valid_until": NOON,
        **changes,
    }
    return SimpleNamespace(**given)


def facts(*lines: Line, approved: list[Line] | None = None, decisions: list[Any] | None = None) -> ShownFacts:
    before = price(max_discount_percent=Decimal("15.00"), margin_percent=Decimal("41.18"), net_total=Decimal("816.00"))
    precedent = Precedent(request_id=uuid4(), revision_no=1, lines=approved, price=before, age_days=2.0) if approved else None
    quote: Any = SimpleNamespace(quote_number="Q-1", customer_id="C-1", owner_user_id="sally", region="EU", payment_term_days=30)
    offer = ApprovalFacts(
        quote=quote,
        price=price(),
        revision_no=2,
        lines=[price_line(each, PRICES) for each in lines],
        product_family="CONNECTIVITY",
        price_stale=False,
        precedent=precedent,
        decisions=decisions or [],
    )
    asked = requirement()
    return ShownFacts(offer=offer, requirement=asked, requirements=[asked], decisions=decisions or [])


def requirement(kind: str = "DISCOUNT", **changes: Any) -> Any:
    given = {
        "id": uuid4(),
        "type": kind,
        "level": 1,
        "because": f"Because of {kind}.",
        "approver_group": "approverRsm",
        "escalation_level": 0,
        "escalation_notice": None,
        "refusal_notice": None,
        "reminded_at": None,
        **dict.fromkeys(("remind_at", "due_at"), NOON),
        **changes,
    }
    return SimpleNamespace(**given)


def shown(seen: ShownFacts, *reused: UUID) -> dict[str, Any]:
    return approval_form.shown(seen, reused)


def decision(comment: str | None = None, **changes: Any) -> Any:
    given = {"created_at": NOON, "revision_no": 1, "type": "DISCOUNT", "level": 1, "decision": "APPROVE", "decided_by": "rita"}
    return SimpleNamespace(**{**given, "reason_code": "WITHIN_POLICY", "comment": comment, **changes})


def rows(text: object) -> list[str]:
    """The rows of a table, without its head."""
    return str(text).splitlines()[2:]


def test_a_first_revision_shows_its_lines_with_list_and_net_and_no_changes() -> None:
    form = shown(facts(line(1), line(2, ROUTER, quantity=3, discount_percent=Decimal("2.5"))))
    assert rows(form["linesText"]) == [
        "| 1 | Fibre line 1000 | 1 | 12 | 960.00 | 20.00 % | 768.00 |  |",
        "| 2 | Router Pro | 3 | 12 | 432.00 | 2.50 % | 421.20 |  |",
    ]
    assert (form["comparedText"], form["decisionsText"]) == ("No revision of this quote was approved before.", "")


def test_lines_changed_since_the_last_approved_revision_are_marked() -> None:
    approved = [
        line(1, discount_percent=Decimal(15)),
        line(2, ROUTER),
        line(3, SUPPORT),
        line(4, SUPPORT, quantity=2, term_months=24),
    ]
    form = shown(facts(line(1), line(2, ROUTER), line(4, SUPPORT), line(5, SUPPORT), approved=approved))
    assert [row.split(" | ")[-1] for row in rows(form["linesText"])] == [
        "**discount was 15.00 %** |",
        " |",
        "**quantity was 2, months was 24** |",
        "**new** |",
        "| **removed** |",
    ]
    assert form["comparedText"] == (
        "Compared with revision 1, the last one approved: discount +5.00 points, margin -3.68 points, net -48.00 EUR."
    )


def test_another_offering_under_the_same_number_is_a_new_line() -> None:
    form = shown(facts(line(1, ROUTER), approved=[line(1, FIBRE)]))
    assert rows(form["linesText"])[0].endswith("| **new** |")


def test_earlier_decisions_stand_newest_first() -> None:
    form = shown(facts(line(1), decisions=[decision("Once"), decision(decision="REUSED", revision_no=2)]))
    assert rows(form["decisionsText"]) == [
        r"| 2026-11-24 12:00 UTC | 2 | DISCOUNT, level 1 | REUSED | rita | WITHIN\_POLICY |  |",
        r"| 2026-11-24 12:00 UTC | 1 | DISCOUNT, level 1 | APPROVE | rita | WITHIN\_POLICY | Once |",
    ]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("two\nlines | a column", r"two lines \| a column"),
        ("**bold** _and_ `code`", r"\*\*bold\*\* \_and\_ \`code\`"),
        ("[click](javascript:alert(1))", r"\[click\]\(javascript\:alert\(1\)\)"),
        ("<img src=x>", r"\<img src\=x\>"),
        ("# not a heading", r"\# not a heading"),
        ("www.evil.example a@evil.example", r"www\.evil\.example a\@evil\.example"),
        ("&#x202e;&lt;", r"\&\#x202e;\&lt;"),
        ("left\u202e to\u200b right\x1b", "left to right"),
        ("x" * 300, "x" * 199 + "…"),
    ],
)
def test_input_of_people_stays_text(typed: str, expected: str) -> None:
    assert plain(typed) == expected


def test_names_in_the_head_of_the_form_stay_text_and_the_list_column_has_no_escapes() -> None:
    of_strangers = facts(line(1))
    of_strangers.offer.quote.customer_id = "# ACME **approved**\nby the director"
    of_strangers.offer.quote.region, of_strangers.offer.quote.owner_user_id = "www.evil.example", "s@lly"

    form = shown(of_strangers)

    assert form["customerText"] == r"\# ACME \*\*approved\*\* by the director"
    assert (form["regionText"], form["ownerText"]) == (r"www\.evil\.example", r"s\@lly")
    assert form["customerId"] == "# ACME **approved** by the director"


def test_tables_are_cut_to_what_the_engine_stores_and_name_what_is_left_out() -> None:
    many = facts(*(line(number) for number in range(1, 200)), decisions=[decision("|" * 200) for _ in range(50)])
    form = shown(many)
    for name in ("linesText", "decisionsText"):
        text = str(form[name])
        assert MAX_STRING * 0.8 < len(text) <= MAX_STRING
        assert "more" in text.splitlines()[-1]
    assert rows(form["linesText"])[-1] == f"… and {199 - sum(row.startswith('|') for row in rows(form['linesText']))} more"
    assert encode(form)


def test_every_rule_that_fired_is_named_with_its_approver_group() -> None:
    seen, asked, reused = facts(line(1)), requirement(), requirement("MARGIN")
    form = shown(replace(seen, requirements=[asked, reused]), reused.id)

    assert str(form["rulesText"]).splitlines() == [
        "- DISCOUNT, level 1 (approverRsm): Because of DISCOUNT.",
        "- MARGIN, level 1 (signature reused): Because of MARGIN.",
    ]


def test_a_single_rule_is_not_listed_because_the_form_names_it() -> None:
    assert shown(facts(line(1)))["rulesText"] == ""


@pytest.mark.parametrize(
    ("changes", "name", "text"),
    [
        ({"refusal_notice": "rita: no."}, "decisionRefused", "rita: no."),
        ({"escalation_notice": "Too late."}, "escalationNotice", "Too late."),
        ({"reminded_at": NOON}, "reminderNotice", "Half of the time is gone. Please decide by 2026-11-24 12:00 UTC."),
    ],
)
def test_the_form_says_why_somebody_is_asked_now(changes: dict[str, Any], name: str, text: str) -> None:
    assert shown(replace(facts(line(1)), requirement=requirement(**changes)))[name] == text
