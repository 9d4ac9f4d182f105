"""A decision on an approval task, on a real database: what may be signed, by whom, and what is kept with it."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from domain.offers.approvals import ApprovalDecision
from domain.store import table_of
from domain.workflows.forms import ShownForm
from domain.workflows.instances import NotThisProcess
from tests.support.approval_desk import DISCOUNT, Desk, first
from tests.support.database import in_order
from tests.support.offers import APPROVER, PRICE_BOOK_VERSION, Offers
from workers.pod.contract import BpmnError, GiveUp
from workers.tasks.markdown import plain


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
