"""Approvers in Tasklist, with a browser: what they read, decide and may not decide, and what the database then says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from domain.authority import AuthorityGrant
from domain.offers.approvals import ApprovalDecision, FourEyesViolation
from domain.store.facts import ConflictLog
from tests.browser import web_apps
from tests.browser.web_apps import Tasklist, WebApps, load_until
from tests.support.logins import hired
from tests.support.offers import Offers
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers.demo.driver import SampleQuote
from workers.demo.people import DIRECTOR, MANAGER, RSM, SALES
from workers.runtime.engine import UserTask

pytestmark = pytest.mark.stack

# How long to look at a window that cannot fill, in milliseconds.
SHORTLY = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A quote that waits for a regional sales manager."""

    shop: Shop
    sample: SampleQuote

    @property
    def number(self) -> str:
        return str(self.sample.quote["quoteNumber"])

    @property
    def quote_id(self) -> UUID:
        return UUID(self.sample.quote["quoteId"])

    @property
    def walk(self) -> Walk:
        """The process instance that asks for the only signature."""
        (key,) = self.shop.signature_keys(self.sample)
        (instance,) = self.shop.engine.find_instances(key)
        return Walk(engine=self.shop.engine, business_key=key, instance_id=instance.id)

    def offer_again(self, discount: str) -> dict[str, Any]:
        """Give another discount on the first line, price and submit, and wait until somebody is asked; returns the quote."""
        shop, quote = self.shop, self.sample.quote
        change = {"lines": [{"lineNo": 1, "discountPercent": discount}], "reasonCode": "CUSTOMER_REQUEST"}
        body = {"expectedRevisionId": quote["revisionId"], **change}
        shop.api.send(f"/quotes/{self.quote_id}", body, version=quote["version"], method="PATCH").expect(200)
        shop.api.price(quote["quoteId"])
        shop.api.submit(quote["quoteId"])
        shop.driver.refresh(self.sample)
        self.user_task()
        return self.sample.quote

    def user_task(self, *, after: str | None = None) -> UserTask:
        """Wait for the open task, or for the one that follows task `after`."""
        tasks = eventually(
            lambda: [task for task in self.shop.asked(self.sample) if task.id != after],
            f"somebody is asked about {self.number}",
        )
        return tasks[0]


@pytest.fixture
def asked(shop: Shop) -> Asked:
    """Offer a quote with a discount that sales may not give alone."""
    asked = Asked(shop=shop, sample=new_sample("18"))
    shop.driver.offer(asked.sample)
    shop.driver.task_for(asked.sample, MANAGER)
    asked.user_task()
    return asked


@pytest.fixture
def selling_approver(shop: Shop) -> Iterator[str]:
    """Put the owner of the quote into the group that approves it."""
    with hired(SALES.subject, RSM.groups[0], by=(shop,)) as seller:
        yield seller


def test_an_approver_reads_a_quote_and_the_decision_is_bound_to_what_was_read(web: WebApps, asked: Asked) -> None:
    quote, task = asked.sample.quote, asked.user_task()

    form = web.tasklist(RSM.id).open(asked.number)
    price = quote["price"]
    facts = (quote["customerId"], quote["ownerUserId"], f"{price['listTotal']} EUR", f"{price['netTotal']} EUR", "18 %")
    because = "A discount of 18.0 % is more than sales may give alone (10 %)."
    told = ("Revision 1", "No revision of this quote was approved before.", f"Why you are asked (DISCOUNT): {because}")
    assert [fact for fact in (*facts, *told) if fact not in form.text] == []
    form.decide("Approve", "Strategic deal", "Reference customer")

    asked.shop.driver.wait_for(asked.sample, "APPROVED")
    (decision,) = asked.shop.rows(ApprovalDecision, quote_id=asked.quote_id)
    assert (decision.decision, decision.reason_code, decision.comment) == ("APPROVE", "STRATEGIC_DEAL", "Reference customer")
    assert (decision.quote_revision_id, decision.price_result_id) == (UUID(quote["revisionId"]), UUID(quote["priceResultId"]))
    assert decision.approval_task_id == task.id
    authority = decision.authority_snapshot
    (grant,) = asked.shop.rows(AuthorityGrant, subject=RSM.id)
    assert (authority["grantId"], authority["role"]) == (str(grant.id), "approverRsm")
    assert (authority["maxDiscountPercent"], authority["minAuthority"]) == ("25.00", "18.00")
    log = asked.shop.engine.rows("/history/user-operation", taskId=task.id, operationType="Complete")
    assert {row["userId"] for row in log} == {decision.decided_by} == {RSM.id}


def test_an_approver_reads_what_changed_and_who_decided_before(web: WebApps, asked: Asked) -> None:
    tasklist = web.tasklist(RSM.id)
    tasklist.open(asked.number).decide("Approve", "Strategic deal", "Reference | customer")
    asked.shop.driver.wait_for(asked.sample, "APPROVED")
    quote = asked.offer_again("20")

    form = tasklist.open(asked.number)
    told = (
        "Revision 2",
        "A discount of 20.0 % is more than sales may give alone (10 %).",
        "Compared with revision 1, the last one approved: discount +2.00 points",
    )
    assert [text for text in told if text not in form.text] == []
    assert form.row("Fibre line 1000")[4:] == ["2136.00", "20.00 %", "1708.80", "discount was 18.00 %"]
    assert form.row("Router Pro")[-1] == ""
    assert form.row("Reference | customer")[1:6] == ["1", "DISCOUNT, level 1", "APPROVE", RSM.id, "STRATEGIC_DEAL"]
    form.picture("approve-quote-changed")
    form.decide("Approve", "Within policy", "Still fine")

    asked.shop.driver.wait_for(asked.sample, "APPROVED")
    (decision,) = asked.shop.rows(ApprovalDecision, quote_revision_id=UUID(quote["revisionId"]))
    assert (decision.decision, decision.comment, decision.decided_by) == ("APPROVE", "Still fine", RSM.id)
    assert decision.price_result_id == UUID(quote["priceResultId"])
    assert decision.authority_snapshot["minAuthority"] == "20.00"


def test_an_approver_escalates_and_the_director_reads_who_did_and_why(web: WebApps, asked: Asked) -> None:
    first = asked.user_task()
    web.tasklist(RSM.id).open(asked.number).decide("Escalate", "Above my authority", "A new | market")
    asked.user_task(after=first.id)

    tasklist = web.tasklist(DIRECTOR.id)
    form = tasklist.open(asked.number)
    assert tasklist.names[0] == f"Escalated: approve quote {asked.number}"
    assert "rina (approverRsm) escalated the task: ABOVE_MY_AUTHORITY – A new | market" in form.text
    assert form.filled_in == []
    form.picture("approve-quote-escalated")
    form.decide("Approve", "Strategic deal", "A market we want")

    asked.shop.driver.wait_for(asked.sample, "APPROVED")
    (decision,) = asked.shop.rows(ApprovalDecision, quote_id=asked.quote_id)
    assert (decision.decided_by, decision.authority_snapshot["role"]) == (DIRECTOR.id, "approverDirector")


def test_a_reminder_stands_on_the_form(web: WebApps, asked: Asked) -> None:
    task = asked.user_task()
    Offers(asked.shop.database, asked.shop.tenant_id).make_late()
    asked.walk.let_time_pass("reminder-due", task)
    eventually(lambda: asked.walk.seen_by(task).get("reminderNotice"), "the reminder is on the form")

    form = web.tasklist(RSM.id).open(asked.number)
    assert "Half of the time is gone. Please decide by " in form.text


def test_whoever_owns_the_quote_gets_the_task_back_with_the_reason(web: WebApps, asked: Asked, selling_approver: str) -> None:
    first = asked.user_task()
    tasklist = web.tasklist(selling_approver)
    tasklist.open(asked.number).decide("Approve", "Within policy", "It is my own")

    again = asked.user_task(after=first.id)
    form = tasklist.open(asked.number)
    assert "The last decision was not accepted" in form.text
    assert f"{selling_approver}: The owner of a quote must not decide on it." in form.text
    assert form.filled_in == []
    assert again.assignee is None
    assert asked.shop.rows(ApprovalDecision, quote_id=asked.quote_id) == []
    assert [row.conflict_code for row in asked.shop.rows(ConflictLog)] == [FourEyesViolation.code]
    assert asked.shop.driver.refresh(asked.sample) == "APPROVAL_IN_PROGRESS"


def test_a_director_is_not_shown_what_a_manager_is_asked(web: WebApps, asked: Asked) -> None:
    tasklist = web.tasklist(DIRECTOR.id)
    assert tasklist.filters == ["Sales directors", "Finance approvers"]
    tasklist.wait_for_answer()
    expect(tasklist.card(asked.number)).to_have_count(0)
    assert DIRECTOR.groups[0] not in asked.shop.engine.groups_of(RSM.id)


def test_an_approver_has_no_way_into_cockpit(web: WebApps) -> None:
    web.log_in("cockpit", RSM.id).get_by_text("missing access rights to application").wait_for()


def test_a_window_that_stays_blank_because_a_script_was_lost_is_loaded_again(web: WebApps, monkeypatch: pytest.MonkeyPatch) -> None:
    page = web.open_window()
    page.route("**/lib/deps.js*", lambda route: route.abort(), times=1)
    patience = chain([SHORTLY], repeat(web_apps.BLANK))

    def load() -> None:
        monkeypatch.setattr(web_apps, "BLANK", next(patience))
        page.goto(web.start_of("tasklist"))

    with page.expect_event("requestfailed") as failed:
        load_until(page.locator("input[ng-model=username]"), load)
    assert "/lib/deps.js" in failed.value.url


def test_a_list_whose_filters_were_lost_after_the_login_is_entered_again(web: WebApps, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, logged_in, patience, windows = WebApps.open_window, WebApps.log_in, web_apps.BLANK, list[Page]()

    def open_window(self: WebApps) -> Page:
        monkeypatch.setattr(web_apps, "BLANK", patience)
        page = opened(self)
        windows.append(page)
        if len(windows) == 1:
            page.route("**/filter*", lambda route: route.abort())
        return page

    def log_in(self: WebApps, application: str, user: str) -> Page:
        page = logged_in(self, application, user)
        if len(windows) == 1:
            monkeypatch.setattr(web_apps, "BLANK", SHORTLY)
        return page

    monkeypatch.setattr(WebApps, "open_window", open_window)
    monkeypatch.setattr(WebApps, "log_in", log_in)

    page = web.enter("tasklist", RSM.id, ".task-filter")

    assert Tasklist(page=page).filters
    assert page is windows[-1] is not windows[0]


def test_a_window_that_stays_blank_says_why(web: WebApps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_apps, "BLANK", SHORTLY)
    page = web.open_window()
    page.route("**/lib/deps.js*", lambda route: route.abort())
    with pytest.raises(TimeoutError, match=r"blank after 3 loads: .*ERR_FAILED"):
        load_until(page.locator("input[ng-model=username]"), lambda: page.goto(web.start_of("tasklist")))
