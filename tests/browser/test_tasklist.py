"""Approvers in Tasklist, with a browser: what they read, decide and may not decide, and what the database then says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from playwright.sync_api import expect

from domain import quotes
from domain.approvals import ApprovalDecision, FourEyesViolation
from domain.store.facts import ConflictLog
from tests.browser.web_apps import WebApps
from tests.support.suite import Shop, new_story
from tests.support.waiting import eventually
from workers.demo.fates import Story
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import DIRECTOR, MANAGER, RSM, SALES
from workers.runtime.engine import UserTask

pytestmark = pytest.mark.stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A quote that waits for a regional sales manager."""

    shop: Shop
    story: Story

    @property
    def number(self) -> str:
        return str(self.story.quote["quoteNumber"])

    @property
    def quote_id(self) -> UUID:
        return UUID(self.story.quote["quoteId"])

    def user_task(self, *, after: str | None = None) -> UserTask:
        """Wait for the open task, or for the one that follows task `after`."""
        key = quotes.business_key(self.shop.tenant_id, self.quote_id, UUID(self.story.quote["revisionId"]))
        tasks = eventually(
            lambda: [task for task in self.shop.engine.user_tasks(key) if task.id != after],
            f"somebody is asked about {self.number}",
        )
        return tasks[0]


@pytest.fixture
def asked(shop: Shop) -> Asked:
    """Offer a quote with a discount that sales may not give alone."""
    asked = Asked(shop=shop, story=new_story("18"))
    shop.teller.offer(asked.story)
    shop.teller.task_for(asked.story, MANAGER)
    asked.user_task()
    return asked


@pytest.fixture
def selling_approver(shop: Shop) -> Iterator[str]:
    """Put the owner of the quote into the group that approves it."""
    name = SALES.subject
    shop.engine.ensure_user(name, first_name="Alice", last_name="Tan", email="alice@example.org", password=PEOPLE_PASSWORD)
    shop.engine.ensure_membership(RSM.groups[0], name)
    yield name
    shop.engine.call("DELETE", f"/user/{name}")


def test_an_approver_reads_a_quote_and_the_decision_is_bound_to_what_was_read(web: WebApps, asked: Asked) -> None:
    quote, task = asked.story.quote, asked.user_task()

    form = web.tasklist(RSM.id).open(asked.number)
    price = quote["price"]
    facts = (quote["customerId"], quote["ownerUserId"], f"{price['listTotal']} EUR", f"{price['netTotal']} EUR", "18 %")
    assert [fact for fact in facts if fact not in form.text] == []
    form.decide("Approve", "Strategic deal", "Reference customer")

    asked.shop.teller.wait_for(asked.story, "APPROVED")
    (decision,) = asked.shop.rows(ApprovalDecision, quote_id=asked.quote_id)
    assert (decision.decision, decision.reason_code, decision.comment) == ("APPROVE", "STRATEGIC_DEAL", "Reference customer")
    assert (decision.quote_revision_id, decision.price_result_id) == (UUID(quote["revisionId"]), UUID(quote["priceResultId"]))
    assert decision.approval_task_id == task.id
    log = asked.shop.engine.get("/history/user-operation", taskId=task.id, operationType="Complete")
    assert {row["userId"] for row in log} == {decision.decided_by} == {RSM.id}


def test_whoever_owns_the_quote_gets_the_task_back_with_the_reason(web: WebApps, asked: Asked, selling_approver: str) -> None:
    first = asked.user_task()
    tasklist = web.tasklist(selling_approver)
    tasklist.open(asked.number).decide("Approve", "Within policy", "It is my own")

    again = asked.user_task(after=first.id)
    form = tasklist.open(asked.number)
    assert "The last decision was not accepted" in form.text
    assert f"{selling_approver}: The owner of a quote does not approve it." in form.text
    assert form.filled_in == []
    assert again.assignee is None
    assert asked.shop.rows(ApprovalDecision, quote_id=asked.quote_id) == []
    assert [row.conflict_code for row in asked.shop.rows(ConflictLog)] == [FourEyesViolation.code]
    assert asked.shop.teller.look(asked.story) == "APPROVAL_IN_PROGRESS"


def test_a_director_is_not_shown_what_a_manager_is_asked(web: WebApps, asked: Asked) -> None:
    tasklist = web.tasklist(DIRECTOR.id)
    assert tasklist.filters == ["Sales directors", "Finance approvers"]
    tasklist.wait_for_answer()
    expect(tasklist.card(asked.number)).to_have_count(0)
    assert DIRECTOR.groups[0] not in asked.shop.engine.groups_of(RSM.id)


def test_an_approver_has_no_way_into_cockpit(web: WebApps) -> None:
    web.log_in("cockpit", RSM.id).get_by_text("missing access rights to application").wait_for()
