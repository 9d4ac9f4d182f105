"""The workers of `quote-approval` on a real database: facts for the rules, reused signatures, variables of each contract."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from domain.catalog import SUPPORT
from domain.offers import quoting, reading
from tests.support.approval_desk import DISCOUNT, Desk, first
from tests.support.as_read import Offer
from tests.support.offers import Offers, line
from workers.pod.contract import BpmnError
from workers.runtime.variables import MAX_STRING, encode
from workers.tasks.topics import CONTRACTS

FINANCE: dict[str, Any] = {**DISCOUNT, "level": 2, "requirementType": "FINANCE", "approverGroup": "approverFinance"}
UNCHANGED = {
    "hasBasis": True,
    "discountChange": 0.0,
    "marginChange": 0.0,
    "dealAmountChange": 0.0,
    "paymentTermChange": 0,
    "linesAdded": False,
}


def offer_again(offers: Offers, offer: Offer, **changes: Any) -> Offer:
    """Make the next revision of an offer, priced and submitted."""
    command = quoting.EditQuote(
        quote_id=offer.quote_id,
        expected_version=offer.version,
        revision_id=offer.revision_id,
        reason_code="CUSTOMER_WISH",
        **changes,
    )
    with offers.uow() as uow:
        quoting.edit(uow, command)
    return offers.submit(offers.price(offers.quote(offer.quote_id)))


def changed(offer_facts: dict[str, Any]) -> dict[str, Any]:
    """The facts about how an offer differs from the last approved one."""
    return {name: offer_facts[name] for name in UNCHANGED}


def test_each_topic_sets_what_its_contract_says(desk: Desk, offers: Offers) -> None:
    offer = offers.submitted_quote()
    facts = desk.facts(offer)
    opened = desk.open(offer, DISCOUNT)
    form = desk.show(first(opened))
    recorded = desk.answer(first(opened), "APPROVE")
    assert set(facts) == set(CONTRACTS["quote.collect-approval-facts"].sets)
    assert set(opened) == set(CONTRACTS["quote.open-requirements"].sets)
    assert set(form) == set(CONTRACTS["approval.prepare-form"].sets)
    assert set(recorded) == set(CONTRACTS["approval.record-decision"].sets)
    assert all(len(value) <= MAX_STRING for value in form.values() if isinstance(value, str))
    assert all(encode(variables) for variables in (facts, opened, form))


def test_a_first_revision_has_no_precedent(desk: Desk, offers: Offers) -> None:
    offer = offers.submitted_quote()
    facts = desk.facts(offer)
    form = desk.show(first(desk.open(offer, DISCOUNT)))
    assert changed(facts) == UNCHANGED | {"hasBasis": False, "linesAdded": True}
    assert (facts["basisAgeDays"], form["revisionNo"], form["decisionsText"]) == (0.0, 1, "")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"lines": [quoting.LineChange(line_no=1, discount_percent=Decimal(15))]},
            {"dealAmountChange": 48.0, "marginChange": 3.22},
        ),
        (
            {"lines": [quoting.LineChange(line_no=1, discount_percent=Decimal(30))]},
            {"discountChange": 10.0, "dealAmountChange": -96.0, "marginChange": -7.62},
        ),
        (
            {"add_lines": [line(3, SUPPORT, discount_percent=Decimal(0))]},
            {"linesAdded": True, "dealAmountChange": 180.0, "marginChange": 4.94},
        ),
        ({"remove_lines": [2]}, {"dealAmountChange": -115.2}),
    ],
    ids=["less discount", "more discount", "one offering more", "one less"],
)
def test_a_new_revision_is_compared_with_the_approved_one(
    desk: Desk, offers: Offers, change: dict[str, Any], expected: dict[str, Any]
) -> None:
    facts = desk.facts(offer_again(offers, offers.approved_quote(), **change))
    assert changed(facts) == pytest.approx(UNCHANGED | expected)
    assert 0 <= facts["basisAgeDays"] < 1


def test_an_approval_that_was_sent_back_is_no_precedent(desk: Desk, offers: Offers) -> None:
    offer = offers.submitted_quote()
    assert desk.record(first(desk.open(offer, DISCOUNT)), "REWORK")["approvalOutcome"] == "REWORK"
    again = offer_again(offers, offers.quote(offer.quote_id), term_months=24)
    assert desk.facts(again)["hasBasis"] is False
    assert "REWORK" in desk.show(first(desk.open(again, DISCOUNT)))["decisionsText"]


def test_only_requirements_without_a_reused_signature_are_opened(desk: Desk, offers: Offers) -> None:
    before = offers.submitted_quote()
    desk.record(first(desk.open(before, DISCOUNT)), "APPROVE")
    again = offer_again(offers, offers.quote(before.quote_id), term_months=24)
    opened = desk.open(again, DISCOUNT, FINANCE, reuse=True)
    assert (opened["approvalNeeded"], opened["approvalReused"]) == (True, False)
    assert [(level["level"], len(level["requirements"])) for level in opened["levels"]] == [(2, 1)]
    form = desk.show(first(opened))
    assert form["requirementType"] == "FINANCE"
    assert "- DISCOUNT, level 1 (signature reused): " in form["rulesText"]
    assert desk.open(again, DISCOUNT, FINANCE, reuse=True) == opened


def test_a_quote_is_approved_at_once_when_all_signatures_are_reused(desk: Desk, offers: Offers) -> None:
    before = offers.submitted_quote()
    desk.record(first(desk.open(before, DISCOUNT)), "APPROVE")
    again = offer_again(offers, offers.quote(before.quote_id), term_months=24)
    opened = desk.open(again, DISCOUNT, reuse=True)
    assert (opened["approvalNeeded"], opened["approvalReused"], opened["levels"]) == (False, True, [])
    assert offers.quote(before.quote_id).status == "APPROVED"


def test_a_signature_of_another_group_is_not_reused(desk: Desk, offers: Offers) -> None:
    before = offers.submitted_quote()
    desk.record(first(desk.open(before, DISCOUNT)), "APPROVE")
    again = offer_again(offers, offers.quote(before.quote_id), term_months=24)
    assert desk.open(again, {**DISCOUNT, "approverGroup": "approverDirector"}, reuse=True)["approvalNeeded"] is True


def test_the_time_of_the_next_level_begins_when_the_level_before_has_signed(desk: Desk, offers: Offers) -> None:
    offer = offers.submitted_quote()
    opened = desk.open(offer, DISCOUNT, {**DISCOUNT, "requirementType": "STALE_PRICE"}, FINANCE)
    one, other = (UUID(row["requirementId"]) for row in opened["levels"][0]["requirements"])
    finance = UUID(opened["levels"][1]["requirements"][0]["requirementId"])
    planned = due_at(offers, finance)
    desk.record(one, "APPROVE")
    assert due_at(offers, finance) == planned
    desk.record(other, "APPROVE")
    assert due_at(offers, finance) < planned


def due_at(offers: Offers, requirement_id: UUID) -> datetime:
    with offers.uow() as uow:
        due: datetime = reading.requirement(uow, requirement_id).due_at
    return due


def test_nobody_is_asked_for_the_next_level_while_the_level_before_is_open(desk: Desk, offers: Offers) -> None:
    """Kills: a process that goes on although an approver has ended its task without a decision."""
    opened = desk.open(offers.submitted_quote(), DISCOUNT, FINANCE)
    finance = UUID(opened["levels"][1]["requirements"][0]["requirementId"])

    with pytest.raises(BpmnError, match="STALE_APPROVAL"):
        desk.show(finance)


def test_a_request_that_is_still_open_names_the_signatures_that_are_missing(desk: Desk, offers: Offers) -> None:
    """Kills: an approval that ends as void because somebody has ended its processes."""
    offer = offers.submitted_quote()
    opened = desk.open(offer, DISCOUNT, FINANCE)
    assert desk.outcome(offer) == {"approvalOutcome": "OPEN", "levels": opened["levels"]}

    desk.record(first(opened), "APPROVE")

    assert desk.outcome(offer) == {"approvalOutcome": "OPEN", "levels": opened["levels"][1:]}


def test_a_rule_is_asked_with_facts_from_the_database(desk: Desk, offers: Offers) -> None:
    """Kills: taking what the rules demand from a process variable, which an operator may write."""
    offer = offers.submitted_quote()
    desk.open(offer, DISCOUNT)
    assert desk.engine.asked["approval-requirements"] == desk.facts(offer)
