"""The workers of `quote-approval` on a real database: facts for the rules, reused signatures, variables of each contract."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from domain.catalog import SUPPORT
from domain.offers import quoting, reading
from domain.offers.approvals import ApprovalDecision
from domain.store import table_of
from domain.workflows import instances
from domain.workflows.forms import ShownForm
from domain.workflows.instances import NotThisProcess
from domain.workflows.keys import BusinessKey, Kind
from tests.support.as_read import Offer
from tests.support.database import acting, in_order
from tests.support.offers import APPROVER, PRICE_BOOK_VERSION, Offers, line
from tests.support.rules import KnownEngine
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.variables import MAX_STRING, encode
from workers.tasks.approval import Approval
from workers.tasks.markdown import plain
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


class Desk:
    """The handlers, called for one offer as the engine calls them: the rules give what the test says."""

    def __init__(self, offers: Offers) -> None:
        self._offers = offers
        self.engine = KnownEngine(groups={APPROVER: ["approverRsm"]}, completed_by=APPROVER)
        self._workers = Approval(acting(offers.engine, "tasks"), self.engine.door)

    def facts(self, offer: Offer) -> dict[str, Any]:
        return self._workers.collect_facts(*self._of_offer("quote.collect-approval-facts", offer))

    def open(self, offer: Offer, *rows: dict[str, Any], reuse: bool = False) -> dict[str, Any]:
        self.engine.rows = {"approval-requirements": rows, "reapproval-reuse": [{"reuse": reuse}]}
        opened: dict[str, Any] = self._workers.open_requirements(*self._of_offer("quote.open-requirements", offer))
        return opened

    def outcome(self, offer: Offer) -> dict[str, Any]:
        return self._workers.apply_outcome(*self._of_offer("quote.apply-outcome", offer))

    def show(self, requirement_id: UUID) -> dict[str, Any]:
        """Prepare the form of a signature."""
        task, key = self._of_signature("approval.prepare-form", requirement_id)
        values = self._workers.prepare_form(task, key)
        self.engine.offer(task.process_instance_id, values)
        return values

    def answer(self, requirement_id: UUID, decision: str, **variables: Any) -> dict[str, Any]:
        """Complete the form that was shown, as the person does whom the engine names."""
        self.engine.typed = encode({"decision": decision, "reasonCode": "WITHIN_POLICY", "comment": "", **variables})
        return self._workers.record_decision(*self._of_signature("approval.record-decision", requirement_id))

    def record(self, requirement_id: UUID, decision: str) -> dict[str, Any]:
        """Show the form of a signature, and complete it."""
        self.show(requirement_id)
        return self.answer(requirement_id, decision)

    def _of_offer(self, topic: str, offer: Offer) -> tuple[Task, BusinessKey]:
        key = BusinessKey(Kind.QUOTE_REVISION, self._offers.tenant_id, (offer.quote_id, offer.revision_id))
        return _task(topic, f"instance-{offer.revision_id}", key), key

    def _of_signature(self, topic: str, requirement_id: UUID, **variables: Any) -> tuple[Task, BusinessKey]:
        key = BusinessKey(Kind.APPROVAL_REQUIREMENT, self._offers.tenant_id, (requirement_id,))
        with self._offers.uow() as uow:
            known = instances.acting_for(uow, [str(key)])
        return _task(topic, known[0] if known else self._offers.process_of_signature(requirement_id), key, **variables), key


def _task(topic: str, instance_id: str, key: BusinessKey, **variables: Any) -> Task:
    return Task(
        id="external-task-1",
        topic=topic,
        worker_id="worker-1",
        tenant_id=str(key.tenant_id),
        process_instance_id=instance_id,
        business_key=str(key),
        activity_id="activity",
        execution_id="execution-1",
        variables=variables,
    )


def first(opened: dict[str, Any]) -> UUID:
    """The first signature that is asked for."""
    return UUID(opened["levels"][0]["requirements"][0]["requirementId"])


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


class TestADecision:
    """What may be signed, by whom, and what is kept with it."""

    @pytest.fixture
    def asked(self, desk: Desk, offers: Offers) -> UUID:
        """A signature whose form somebody has open."""
        requirement_id = first(desk.open(offers.submitted_quote(), DISCOUNT))
        desk.show(requirement_id)
        return requirement_id

    def decisions(self, offers: Offers) -> list[Any]:
        table = table_of(ApprovalDecision)
        with offers.engine.connect() as connection:
            return list(connection.execute(in_order(select(*table.c), table)))

    def refused(self, desk: Desk, requirement_id: UUID, decision: str = "APPROVE") -> tuple[str, str]:
        """The code of the refusal, and what the next form says about it."""
        with pytest.raises(BpmnError) as refusal:
            desk.answer(requirement_id, decision)
        return refusal.value.code, desk.show(requirement_id)["decisionRefused"]

    def test_keeps_what_the_form_has_shown(self, desk: Desk, offers: Offers, asked: UUID) -> None:
        desk.answer(asked, "APPROVE")

        [decision] = self.decisions(offers)
        with offers.uow() as uow:
            form = uow.read(ShownForm, decision.shown_form_id)
        assert form.facts["price"]["netTotal"] == "883.20"
        assert form.facts["requirement"]["type"] == "DISCOUNT"
        assert (form.subject_id, decision.decided_by) == (asked, APPROVER)

    def test_takes_nothing_but_the_form_from_variables(self, desk: Desk, offers: Offers, asked: UUID) -> None:
        other = offers.quote_in_approval()
        [theirs] = offers.requirement_ids(other)
        forged = {"requirementId": str(theirs), "quoteRevisionId": str(other.revision_id), "tenantId": str(uuid4())}

        desk.answer(asked, "APPROVE", **forged)

        assert [row.requirement_id for row in self.decisions(offers)] == [asked]

    def test_is_not_an_escalation(self, desk: Desk, asked: UUID) -> None:
        """The model has another path for an escalation; a person who completes the task without the form gets a new task."""
        assert self.refused(desk, asked, "ESCALATE") == (
            "FORM_CHANGED",
            plain(f"{APPROVER}: Please choose APPROVE, REJECT, REWORK or ESCALATE."),
        )

    def test_does_not_count_when_somebody_wrote_variables_while_the_form_was_open(
        self, desk: Desk, offers: Offers, asked: UUID
    ) -> None:
        """Kills: trusting what a form shows although a colleague may have written its variables."""
        desk.engine.forge(netTotal="1.00")

        code, notice = self.refused(desk, asked)

        assert (code, notice) == ("FORM_CHANGED", plain(f"{APPROVER}: What the form shows has changed since it was opened."))
        assert self.decisions(offers) == []

    def test_does_not_count_when_its_facts_have_changed(self, desk: Desk, offers: Offers, asked: UUID) -> None:
        """Kills: signing what the form showed although the database has moved on."""
        offers.publish_prices("p-2", replaces=PRICE_BOOK_VERSION)

        assert self.refused(desk, asked)[0] == "FORM_CHANGED"
        assert self.decisions(offers) == []

    def test_counts_once_the_form_was_renewed(self, desk: Desk, offers: Offers, asked: UUID) -> None:
        offers.publish_prices("p-2", replaces=PRICE_BOOK_VERSION)
        self.refused(desk, asked)

        desk.answer(asked, "APPROVE")

        assert [row.decision for row in self.decisions(offers)] == ["APPROVE"]

    def test_of_a_colleague_at_the_same_level_does_not_change_the_facts(self, desk: Desk, offers: Offers) -> None:
        opened = desk.open(offers.submitted_quote(), DISCOUNT, {**DISCOUNT, "requirementType": "STALE_PRICE"})
        one, other = (UUID(row["requirementId"]) for row in opened["levels"][0]["requirements"])
        desk.show(one)
        desk.record(other, "APPROVE")

        assert desk.answer(one, "APPROVE")["approvalOutcome"] == "APPROVED"

    def test_that_nobody_made_makes_an_incident(self, desk: Desk, offers: Offers, asked: UUID) -> None:
        desk.engine.completed_by = None

        with pytest.raises(GiveUp, match="Nobody has completed the task"):
            desk.answer(asked, "APPROVE")

        assert self.decisions(offers) == []

    def test_of_another_process_is_refused(self, offers: Offers, asked: UUID) -> None:
        """Kills: a guard that does not ask which process acts for the requirement."""
        other = offers.quote_in_approval()
        [theirs] = offers.requirement_ids(other)
        stranger = offers.process_of_signature(asked)

        with pytest.raises(NotThisProcess):
            offers.decide(other, theirs, process_instance_id=stranger)

        assert self.decisions(offers) == []
