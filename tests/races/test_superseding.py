"""T2 and M3: a revision is superseded while its approval is on the way. What was approved of the old one is worth nothing for the new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine

from domain.accepting import ACCEPT
from domain.delivery.orders import SalesOrder
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, Decision, RequestStatus
from domain.offers.deciding import DECIDE, QUOTE_OUTCOME
from domain.offers.quotes import Quote, QuoteStatus, business_key
from domain.store import table_of
from tests.support.database import count
from tests.support.guards import without
from tests.support.http import Api, acceptance, decide, edit, is_problem
from tests.support.offers import Offer, Offers
from tests.support.races import race_for_row
from tests.support.suite import EVERYTHING, Shop, new_sample, prepared, working
from tests.support.waiting import eventually
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import LocalSuite
from workers.demo.people import MANAGER
from workers.local.stack import LocalStack
from workers.runtime.engine_history import EngineInstance

NOTHING = UUID(int=0)
ASKED = "20"  # a discount in percent that needs the manager


def edited(api: Api, offer: Offer) -> Any:
    return api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.body, termMonths=24), version=offer.version)


def test_an_approver_who_decides_on_a_form_of_the_old_revision_is_told_that_it_is_stale(
    api: Api, offers: Offers, db: Engine
) -> None:
    """T2 over HTTP. Kills: dropping the guard that binds a decision to its revision (its twin is the next test)."""
    asked = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(asked)
    stale = api.metric("q2o_stale_approval_rejections_total", command="decide-approval")
    assert edited(api, asked).status_code == 200

    problem = is_problem(decide(api.approver, asked, requirement_id), 409, "STALE_APPROVAL")

    assert problem["safeUserAction"] == "REQUEST_APPROVAL"
    assert (count(db, ApprovalDecision), offers.quote(asked.quote_id).status) == (0, QuoteStatus.DRAFT)
    assert [row.status for row in rows(db, ApprovalRequest)] == [RequestStatus.INVALIDATED]
    assert api.metric("q2o_stale_approval_rejections_total", command="decide-approval") == stale + 1


def test_without_that_guard_the_state_of_the_requirement_still_says_no(api: Api, offers: Offers, db: Engine) -> None:
    asked = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(asked)
    edited(api, asked)

    with without(DECIDE[Decision.APPROVE], 1, 2), without(QUOTE_OUTCOME[Decision.APPROVE], 0):
        reply = decide(api.approver, asked, requirement_id, expectedRequirementVersion=2)

    is_problem(reply, 409, "INVALID_TRANSITION")
    assert count(db, ApprovalDecision) == 0


def raced(api: Api, db: Engine, asked: Offer, requirement_id: UUID, *, edit_first: bool) -> list[httpx.Response]:
    """Edit the quote and sign its approval at once; returns the responses in the order in which the two queued at the quote."""
    callers = [lambda: edited(api, asked), lambda: decide(api.approver, asked, requirement_id)]
    futures = race_for_row(db, table_of(Quote), asked.quote_id, *(callers if edit_first else callers[::-1]))
    return [future.result() for future in futures]


def test_the_last_signature_is_stale_when_an_edit_comes_first(api: Api, offers: Offers, db: Engine) -> None:
    asked = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(asked)

    edit_reply, signature = raced(api, db, asked, requirement_id, edit_first=True)

    assert (edit_reply.status_code, offers.quote(asked.quote_id).status) == (200, QuoteStatus.DRAFT)
    is_problem(signature, 409, "STALE_APPROVAL")
    assert count(db, ApprovalDecision) == 0


def test_an_edit_is_refused_when_the_last_signature_comes_first(api: Api, offers: Offers, db: Engine) -> None:
    asked = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(asked)

    signature, edit_reply = raced(api, db, asked, requirement_id, edit_first=False)

    assert (signature.status_code, offers.quote(asked.quote_id).status) == (201, QuoteStatus.APPROVED)
    is_problem(edit_reply, 409, "QUOTE_VERSION_CONFLICT")


def in_its_next_revision(api: Api, offers: Offers, old: Offer) -> Offer:
    """Edit an approved quote, price it again and issue its document, so that only the approval is missing."""
    assert edited(api, old).status_code == 200
    return offers.issue_document(offers.price(offers.quote(old.quote_id)))


def of_the_old_revision(old: Offer, _new: Offer) -> dict[str, Any]:
    return acceptance(old)


def with_the_old_approval(old: Offer, new: Offer) -> dict[str, Any]:
    return {**acceptance(new), "approvalRequestId": str(old.approval_request_id)}


def without_an_approval(_old: Offer, new: Offer) -> dict[str, Any]:
    return {**acceptance(new), "approvalRequestId": str(NOTHING)}


@pytest.mark.parametrize(
    ("body", "code"),
    [(of_the_old_revision, "STALE_APPROVAL"), (with_the_old_approval, "STALE_APPROVAL"), (without_an_approval, "APPROVAL_MISSING")],
)
def test_an_approval_of_one_revision_never_authorises_the_next(
    api: Api, offers: Offers, db: Engine, body: Callable[[Offer, Offer], dict[str, Any]], code: str
) -> None:
    """M3. Kills: dropping the guards that bind the acceptance to its approval (the twin is the next test)."""
    old = offers.approved_quote()
    new = in_its_next_revision(api, offers, old)
    stale = api.metric("q2o_stale_approval_rejections_total", command="accept-quote")

    reply = send(api, new, body(old, new))

    is_problem(reply, 409, code)
    assert count(db, SalesOrder) == 0
    # A missing approval is counted with the stale ones.
    assert api.metric("q2o_stale_approval_rejections_total", command="accept-quote") == stale + 1


def test_without_those_guards_only_the_state_of_the_quote_keeps_the_old_approval_out(api: Api, offers: Offers, db: Engine) -> None:
    old = offers.approved_quote()
    new = in_its_next_revision(api, offers, old)

    with without(ACCEPT, 1, 2):
        reply = send(api, new, with_the_old_approval(old, new))

    is_problem(reply, 409, "INVALID_TRANSITION")
    assert count(db, SalesOrder) == 0


def send(api: Api, offer: Offer, body: dict[str, Any]) -> Any:
    return api.customer.post(f"/quotes/{offer.quote_id}/acceptances", body, version=offer.version)


def rows(db: Engine, entity: Any) -> list[Any]:
    with db.connect() as connection:
        return list(connection.execute(table_of(entity).select()))


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run everything but the dispatcher: each test lets messages through at its own time."""
    with prepared(stack) as local, working(local.settings, *EVERYTHING.difference({"dispatch"})):
        yield local


def asked_of_manager(shop: Shop) -> SampleQuote:
    """Bring a quote to its approver: the process waits in the user task."""
    sample = new_sample(ASKED)
    shop.driver.offer(sample)
    with working(shop.local.settings, "dispatch"):
        shop.driver.task_for(sample, MANAGER)
        eventually(lambda: user_tasks(shop, sample), "the approver has the task")
    shop.driver.refresh(sample)
    return sample


def key_of(shop: Shop, sample: SampleQuote) -> str:
    return business_key(shop.tenant_id, UUID(sample.quote["quoteId"]), UUID(sample.quote["revisionId"]))


def user_tasks(shop: Shop, sample: SampleQuote) -> list[Any]:
    tasks: list[Any] = shop.engine.get("/task", processInstanceBusinessKey=key_of(shop, sample))
    return tasks


def ended(shop: Shop) -> list[EngineInstance]:
    return [instance for instance in shop.instances() if not instance.is_running]


def ends_as_void(shop: Shop, sample: SampleQuote) -> None:
    """The process has ended by itself, at "Approval void", and asks nobody any more."""
    eventually(lambda: len(ended(shop)) == 1, "the process of the old revision ends")
    [instance] = ended(shop)
    activities = shop.engine.get("/history/activity-instance", processInstanceId=instance.id, activityType="noneEndEvent")
    assert "Approval void" in {activity["activityName"] for activity in activities}
    assert user_tasks(shop, sample) == []
    assert shop.rows(ApprovalDecision) == []


@pytest.mark.stack
def test_a_task_of_the_old_revision_completed_in_the_engine_ends_as_void(shop: Shop) -> None:
    """T2 past the product: the message has not arrived, the approver completes the task in Camunda itself."""
    sample = asked_of_manager(shop)
    old_revision = sample.quote["revisionNo"]
    shop.driver.edit(sample)

    [task] = user_tasks(shop, sample)
    shop.engine.complete_user_task(task["id"], {"decision": "APPROVE", "reasonCode": "WITHIN_POLICY", "comment": ""})

    ends_as_void(shop, sample)
    assert [request.status for request in shop.rows(ApprovalRequest)] == [RequestStatus.INVALIDATED]
    assert (shop.driver.refresh(sample), sample.quote["revisionNo"]) == ("DRAFT", old_revision + 1)


@pytest.mark.stack
@pytest.mark.parametrize("how", ["edit", "recalls", "cancellations"])
def test_a_withdrawn_revision_takes_its_task_from_the_approver(shop: Shop, how: str) -> None:
    """Edited, recalled or cancelled: the message ends the process, and the user task is gone."""
    sample = asked_of_manager(shop)
    quote = sample.quote

    if how == "edit":
        shop.driver.edit(sample)
    else:
        body = {"revisionId": quote["revisionId"], "reasonCode": "CUSTOMER_REQUEST"}
        shop.api.send(f"/quotes/{quote['quoteId']}/{how}", body, version=quote["version"]).expect(201)
    with working(shop.local.settings, "dispatch"):
        ends_as_void(shop, sample)
