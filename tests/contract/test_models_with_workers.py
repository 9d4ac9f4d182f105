"""`quote-approval` with real workers, the real domain and the real dispatcher; the test only fires the timers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, update

from domain.offers import approvals, quotes, withdrawing
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from domain.offers.quotes import Quote
from domain.store import Cause, UnitOfWork, table_of, unit_of_work
from domain.store.facts import TransitionLog
from tests.support.approval_walk import asked, groups
from tests.support.offers import Offers
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from tests.support.walk import Walk, called
from workers.demo.driver import SampleQuote
from workers.demo.people import DIRECTOR, DIRECTOR_AND_FINANCE, MANAGER, RSM
from workers.runtime.engine import UserTask

pytestmark = pytest.mark.stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The approval of a quote that needs the regional sales manager; workers and dispatcher carry it on by themselves."""

    shop: Shop
    sample: SampleQuote

    @property
    def quote_id(self) -> UUID:
        return UUID(self.sample.quote["quoteId"])

    @property
    def walk(self) -> Walk:
        """The process instance of the revision that the story read last."""
        key = quotes.business_key(self.shop.tenant_id, self.quote_id, UUID(self.sample.quote["revisionId"]))
        instance = eventually(lambda: self.shop.engine.find_instances(key), f"an instance of {key}")[0]
        return Walk(engine=self.shop.engine, business_key=key, instance_id=instance.id)

    @property
    def requirement(self) -> Row[Any]:
        """The only requirement of the revision that the story read last, as it stands."""

        def found() -> list[Row[Any]]:
            requests = self.shop.rows(ApprovalRequest, quote_revision_id=UUID(self.sample.quote["revisionId"]))
            return [row for request in requests for row in self.shop.rows(ApprovalRequirement, request_id=request.id)]

        (row,) = eventually(found, "a signature is needed")
        return row

    @property
    def signature(self) -> Walk:
        """The process that asks for the only signature."""
        return called(self.walk, approvals.business_key(self.shop.tenant_id, self.requirement.id))

    def task(self, *, after: UserTask | None = None) -> UserTask:
        """Wait for the open user task, or for the one that follows task `after`."""
        return asked(self.signature, after=after)

    def shown(self, task: UserTask, name: str) -> str:
        """Wait for a text on the form of the task."""
        walk = self.walk
        return str(eventually(lambda: walk.seen_by(task).get(name), f"{name} on the form"))

    def let_time_pass(self, timer: str, task: UserTask) -> None:
        """Let the deadlines of the requirement come, in the database and in the engine."""
        Offers(self.shop.database, self.shop.tenant_id).make_late()
        self.signature.let_time_pass(timer, task)

    def events(self) -> list[str]:
        """The types of the events about the requirement, in their order."""
        log = sorted(self.shop.rows(TransitionLog, aggregate_id=self.requirement.id), key=lambda row: row.aggregate_version)
        return [row.emitted_event_type for row in log if row.emitted_event_type]


@pytest.fixture
def approval(shop: Shop) -> Approval:
    """Offer a quote with a discount that sales may not give alone."""
    approval = Approval(shop=shop, sample=new_sample("18"))
    shop.driver.offer(approval.sample)
    shop.driver.task_for(approval.sample, MANAGER)
    approval.task()
    return approval


def test_an_approver_is_reminded_after_half_of_the_time(approval: Approval) -> None:
    task, opened = approval.task(), approval.requirement
    assert opened.due_at - opened.remind_at == timedelta(hours=12)
    approval.let_time_pass("reminder-due", task)
    assert approval.shown(task, "reminderNotice").startswith("Half of the time is gone. Please decide by ")
    assert approval.requirement.reminded_at is not None
    assert approval.events() == ["ApprovalReminded"]


def test_an_overdue_requirement_is_escalated_to_the_director_who_signs(approval: Approval) -> None:
    task, opened = approval.task(), approval.requirement
    approval.let_time_pass("decision-overdue", task)
    again = approval.task(after=task)
    late = approval.requirement
    assert (late.status, late.approver_group, late.escalation_level) == ("PENDING", "approverDirector", 1)
    assert late.due_at > opened.due_at
    assert again.due is not None
    assert abs(datetime.fromisoformat(again.due) - late.due_at) < timedelta(seconds=1)
    assert groups(approval.walk, again) == ["approverDirector"]
    assert approval.shown(again, "escalationNotice") == "approverRsm did not decide in time. The task was escalated."
    approval.shop.driver.decide(approval.sample, DIRECTOR_AND_FINANCE, "APPROVE")
    approval.walk.ends_as("Quote approved")
    (decision,) = approval.shop.rows(ApprovalDecision)
    assert (decision.decided_by, decision.authority_snapshot["role"]) == (DIRECTOR.id, "approverDirector")


def test_the_next_group_sees_who_escalated_by_hand(approval: Approval) -> None:
    task = approval.task()
    approval.shop.driver.decide_in_tasklist(approval.sample, MANAGER, "ESCALATE")
    again = approval.task(after=task)
    assert approval.shown(again, "escalationNotice") == rf"{RSM.id} (approverRsm) escalated the task: STRATEGIC\_DEAL"
    assert approval.walk.seen_by(again)["decision"] is None
    assert approval.requirement.approver_group == "approverDirector"
    assert approval.shop.rows(ApprovalDecision) == []


def test_the_same_group_gets_more_time_when_there_is_no_group_above(approval: Approval) -> None:
    task = approval.task()
    for group in ("approverDirector", "dealDesk"):
        approval.let_time_pass("decision-overdue", task)
        task = approval.task(after=task)
        assert approval.requirement.approver_group == group
    before = approval.requirement
    approval.let_time_pass("decision-overdue", task)
    again = approval.task(after=task)
    after = approval.requirement
    assert (after.approver_group, after.escalation_level) == ("dealDesk", 3)
    assert after.due_at > before.due_at
    assert (
        approval.shown(again, "escalationNotice")
        == "dealDesk did not decide in time. Nobody stands above; the deadline is extended."
    )


def recall(uow: UnitOfWork, quote: Row[Any]) -> Row[Any]:
    command = withdrawing.RecallQuote(
        quote_id=quote.id, expected_version=quote.version, revision_id=quote.current_revision_id, reason_code="WRONG_PRICE"
    )
    return withdrawing.recall(uow, command)


def cancel(uow: UnitOfWork, quote: Row[Any]) -> Row[Any]:
    command = withdrawing.CancelQuote(
        quote_id=quote.id, expected_version=quote.version, revision_id=quote.current_revision_id, reason_code="NO_INTEREST"
    )
    return withdrawing.cancel(uow, command)


def expire(uow: UnitOfWork, quote: Row[Any]) -> Row[Any]:
    quote_table = table_of(Quote)
    # The end of an offer is a column, so the test puts it into the past and need not wait.
    passed = update(quote_table).where(quote_table.c.id == quote.id).values(valid_until=datetime.now(UTC) - timedelta(seconds=1))
    uow.connection.execute(passed)
    return withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=quote.id, expected_version=quote.version))


@pytest.mark.parametrize(
    ("withdraw", "request_status"),
    [(recall, "RECALLED"), (cancel, "INVALIDATED"), (expire, "EXPIRED")],
    ids=("recalled", "cancelled", "expired"),
)
def test_a_withdrawn_quote_takes_its_task_away(
    approval: Approval, withdraw: Callable[[UnitOfWork, Row[Any]], Row[Any]], request_status: str
) -> None:
    walk, signature, shop = approval.walk, approval.signature, approval.shop
    (quote,) = shop.rows(Quote)
    cause = Cause(tenant_id=shop.tenant_id, actor="alice", command="withdraw")
    with unit_of_work(shop.database, cause) as uow:
        withdraw(uow, quote)
    walk.ends_as("Approval void")
    assert shop.engine.user_tasks(signature.business_key) == []
    assert [row.status for row in shop.rows(ApprovalRequest)] == [request_status]
    assert shop.rows(ApprovalDecision) == []


def offer_again(approval: Approval, discount: str) -> Walk:
    """Change the discount of an approved quote, price it and submit it; returns the walk of the new revision."""
    shop, sample = approval.shop, approval.sample
    shop.driver.refresh(sample)
    quote_id, line = sample.quote["quoteId"], {"lineNo": 1, "discountPercent": discount}
    body = {"expectedRevisionId": sample.quote["revisionId"], "reasonCode": "CUSTOMER_REQUEST", "lines": [line]}
    shop.api.send(f"/quotes/{quote_id}", body, version=sample.quote["version"], method="PATCH").expect(200)
    shop.api.price(quote_id)
    shop.api.submit(quote_id)
    shop.driver.refresh(sample)
    return approval.walk


def test_a_signature_is_reused_for_an_offer_that_is_not_worse(approval: Approval) -> None:
    approval.shop.driver.decide_in_tasklist(approval.sample, MANAGER, "APPROVE")
    approval.walk.ends_as("Quote approved")
    offer_again(approval, "15").ends_as("Approval reused")
    assert approval.shop.driver.refresh(approval.sample) == "APPROVED"
    signed = sorted(approval.shop.rows(ApprovalDecision), key=lambda row: row.created_at)
    assert [(row.decision, row.decided_by) for row in signed] == [("APPROVE", RSM.id), ("REUSED", RSM.id)]
    assert signed[1].basis_decision_id == signed[0].id


def test_a_signature_is_not_reused_for_an_offer_that_is_worse(approval: Approval) -> None:
    approval.shop.driver.decide_in_tasklist(approval.sample, MANAGER, "APPROVE")
    approval.walk.ends_as("Quote approved")
    offer_again(approval, "20")
    seen = approval.walk.seen_by(approval.task())
    assert seen["comparedText"].startswith("Compared with revision 1, the last one approved: discount +2.00 points, margin -")
    assert "**discount was 18.00 %**" in seen["linesText"]
    assert f"| 1 | DISCOUNT, level 1 | APPROVE | {RSM.id} |" in seen["decisionsText"]
    assert seen["because"] == "A discount of 20.0 % is more than sales may give alone (10 %)."
    assert seen["rulesText"] == ""
