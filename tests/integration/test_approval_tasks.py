"""The workers of `quote-approval` on a real database: facts for the rules, reused signatures, variables of each contract."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest

from domain.catalog import SUPPORT
from domain.offers import quoting
from tests.support.offers import APPROVER, Offer, Offers, line
from workers.pod.contract import BpmnError, Task
from workers.runtime.engine import Completion, Engine
from workers.runtime.variables import MAX_STRING, encode
from workers.tasks.approval import Approval
from workers.tasks.topics import CONTRACTS

DISCOUNT: dict[str, Any] = {
    "level": 1,
    "requirementType": "DISCOUNT",
    "approverGroup": "approverRsm",
    "minAuthorityDiscountPercent": 20.0,
    "slaDuration": "PT24H",
    "because": "A discount of 20.0 % is more than sales may give alone (10 %).",
}
FINANCE: dict[str, Any] = {**DISCOUNT, "level": 2, "requirementType": "FINANCE", "approverGroup": "approverFinance"}
UNCHANGED = {
    "hasBasis": True,
    "discountChange": 0.0,
    "marginChange": 0.0,
    "dealAmountChange": 0.0,
    "paymentTermChange": 0,
    "linesAdded": False,
}


@dataclass(frozen=True, slots=True)
class KnownEngine:
    """The engine's answers to these handlers: the policy that decided, who completed the task, and in which groups they are."""

    def decision_definition_id(self, process_instance_id: str, decision_key: str) -> str:
        return f"{decision_key}:{process_instance_id}"

    def who_completed(self, process_instance_id: str, activity_id: str, *, beside: str) -> Completion:
        return Completion(user_id=APPROVER, task_id=f"{activity_id}:{process_instance_id}:{beside}", completed_at=datetime.now(UTC))

    def groups_of(self, user_id: str) -> list[str]:
        return {APPROVER: ["approverRsm"]}.get(user_id, [])


class Desk:
    """The handlers, called for one offer."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self._workers = Approval(offers.engine, cast("Engine", KnownEngine()))

    def facts(self, offer: Offer) -> dict[str, Any]:
        return self._workers.collect_facts(self._task("quote.collect-approval-facts", offer))

    def open(self, offer: Offer, *rows: dict[str, Any], reuse: bool = False) -> dict[str, Any]:
        return self._workers.open_requirements(self._task("quote.open-requirements", offer, requirements=list(rows), reuse=reuse))

    def record(self, offer: Offer, opened: dict[str, Any], decision: str) -> dict[str, Any]:
        requirement = opened["levels"][0]["requirements"][0]
        answer = {"decision": decision, "reasonCode": "WITHIN_POLICY", "comment": ""}
        return self._workers.record_decision(
            self._task("approval.record-decision", offer, requirementId=requirement["requirementId"], **answer)
        )

    def _task(self, topic: str, offer: Offer, **variables: Any) -> Task:
        ids = {"quoteId": offer.quote_id, "quoteRevisionId": offer.revision_id, "priceResultId": offer.price_result_id}
        given = {name: str(value) for name, value in ids.items()}
        return Task(
            id="external-task-1",
            topic=topic,
            worker_id="worker-1",
            process_instance_id=f"instance-{offer.revision_id}",
            business_key="quote:1",
            activity_id="activity",
            execution_id="execution-1",
            activity_instance_id=f"record:{variables.get('requirementId')}",
            variables={"tenantId": str(self._offers.tenant_id), **given, **variables},
        )


@pytest.fixture
def desk(offers: Offers) -> Desk:
    return Desk(offers)


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
    recorded = desk.record(offer, opened, "APPROVE")
    assert set(facts) == set(CONTRACTS["quote.collect-approval-facts"].sets)
    assert set(opened) == set(CONTRACTS["quote.open-requirements"].sets)
    assert set(recorded) <= set(CONTRACTS["approval.record-decision"].sets)
    assert all(len(value) <= MAX_STRING for value in facts.values() if isinstance(value, str))
    assert encode(facts)
    assert encode(opened)


def test_a_first_revision_has_no_precedent(desk: Desk, offers: Offers) -> None:
    facts = desk.facts(offers.submitted_quote())
    assert changed(facts) == UNCHANGED | {"hasBasis": False, "linesAdded": True}
    assert (facts["basisAgeDays"], facts["revisionNo"], facts["decisionsText"]) == (0.0, 1, "")


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
    assert desk.record(offer, desk.open(offer, DISCOUNT), "REWORK")["approvalOutcome"] == "REWORK"
    facts = desk.facts(offer_again(offers, offers.quote(offer.quote_id), term_months=24))
    assert facts["hasBasis"] is False
    assert "REWORK" in facts["decisionsText"]


def test_only_requirements_without_a_reused_signature_are_opened(desk: Desk, offers: Offers) -> None:
    first = offers.submitted_quote()
    desk.record(first, desk.open(first, DISCOUNT), "APPROVE")
    again = offer_again(offers, offers.quote(first.quote_id), term_months=24)
    opened = desk.open(again, DISCOUNT, FINANCE, reuse=True)
    assert (opened["approvalNeeded"], opened["approvalReused"]) == (True, False)
    assert [(level["level"], [row["requirementType"] for row in level["requirements"]]) for level in opened["levels"]] == [
        (2, ["FINANCE"])
    ]
    assert "- DISCOUNT, level 1 (signature reused): " in opened["rulesText"]
    assert desk.open(again, DISCOUNT, FINANCE, reuse=True) == opened


def test_a_quote_is_approved_at_once_when_all_signatures_are_reused(desk: Desk, offers: Offers) -> None:
    first = offers.submitted_quote()
    desk.record(first, desk.open(first, DISCOUNT), "APPROVE")
    again = offer_again(offers, offers.quote(first.quote_id), term_months=24)
    opened = desk.open(again, DISCOUNT, reuse=True)
    assert (opened["approvalNeeded"], opened["approvalReused"], opened["levels"]) == (False, True, [])
    assert offers.quote(first.quote_id).status == "APPROVED"


def test_a_signature_of_another_group_is_not_reused(desk: Desk, offers: Offers) -> None:
    first = offers.submitted_quote()
    desk.record(first, desk.open(first, DISCOUNT), "APPROVE")
    again = offer_again(offers, offers.quote(first.quote_id), term_months=24)
    assert desk.open(again, {**DISCOUNT, "approverGroup": "approverDirector"}, reuse=True)["approvalNeeded"] is True


def test_the_deadlines_of_the_next_level_begin_when_the_level_before_has_signed(desk: Desk, offers: Offers) -> None:
    offer = offers.submitted_quote()
    opened = desk.open(offer, DISCOUNT, {**DISCOUNT, "requirementType": "STALE_PRICE"}, FINANCE)
    first, *others = (row for level in opened["levels"] for row in level["requirements"])
    assert "levels" not in desk.record(offer, opened, "APPROVE")
    opened["levels"][0]["requirements"].remove(first)
    begun = desk.record(offer, opened, "APPROVE")["levels"]
    assert [[row["requirementType"] for row in level["requirements"]] for level in begun] == [
        ["DISCOUNT", "STALE_PRICE"],
        ["FINANCE"],
    ]
    assert begun[1]["requirements"][0]["dueAt"] < others[1]["dueAt"]


def test_an_escalation_is_not_recorded_as_a_decision(desk: Desk, offers: Offers) -> None:
    """The model has another path for an escalation; a person who completes the task without the form gets a new task."""
    offer = offers.submitted_quote()
    opened = desk.open(offer, DISCOUNT)
    with pytest.raises(BpmnError) as refused:
        desk.record(offer, opened, "ESCALATE")
    assert refused.value.code == "AUTHORITY_EXCEEDED"
    assert refused.value.variables["decisionRefused"] == "Please choose APPROVE, REJECT, REWORK or ESCALATE."


def test_a_rule_of_an_older_model_without_a_reason_still_opens_its_requirement(desk: Desk, offers: Offers) -> None:
    row = {name: value for name, value in DISCOUNT.items() if name != "because"}
    opened = desk.open(offers.submitted_quote(), row)
    assert opened["levels"][0]["requirements"][0]["because"] == "The rules ask for DISCOUNT."
