"""An approver in Tasklist whose quote is changed while the form is open: the decision is void, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import pytest

from domain.offers import quotes
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, RequestStatus
from domain.store.facts import ConflictLog
from tests.browser.web_apps import WebApps
from tests.support.suite import EVERYTHING, Shop, new_sample, prepared, working
from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import LocalSuite
from workers.demo.people import MANAGER, RSM
from workers.local.stack import LocalStack

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run everything but the dispatcher, so that a message to the engine can be late."""
    with prepared(stack) as local, working(local.settings, *EVERYTHING.difference({"dispatch"})):
        yield local


def asked(shop: Shop) -> tuple[SampleQuote, Walk]:
    """Bring a quote to its approver, and hold back every further message to the engine."""
    sample = new_sample("18")
    shop.driver.offer(sample)
    key = quotes.business_key(shop.tenant_id, UUID(sample.quote["quoteId"]), UUID(sample.quote["revisionId"]))
    with working(shop.local.settings, "dispatch"):
        shop.driver.task_for(sample, MANAGER)
        eventually(lambda: shop.asked(sample), "the approver has the task")
    shop.driver.refresh(sample)
    (instance,) = shop.engine.find_instances(key)
    return sample, Walk(engine=shop.engine, business_key=key, instance_id=instance.id)


def test_a_decision_on_a_revision_that_was_superseded_meanwhile_is_void(web: WebApps, shop: Shop) -> None:
    sample, walk = asked(shop)
    tasklist = web.tasklist(RSM.id)
    form = tasklist.open(sample.quote["quoteNumber"])
    form.fill_in("Approve", "Strategic deal", "On the offer that I read")

    shop.driver.edit(sample)
    form.picture("superseded-while-open")
    form.complete()

    walk.ends_as("Approval void")
    assert shop.rows(ApprovalDecision) == []
    assert [request.status for request in shop.rows(ApprovalRequest)] == [RequestStatus.INVALIDATED]
    assert (shop.driver.refresh(sample), sample.quote["revisionNo"]) == ("DRAFT", 2)
    assert [(row.command, row.conflict_code) for row in shop.rows(ConflictLog)] == [("approval.record-decision", "STALE_APPROVAL")]
    tasklist.reload()
    tasklist.wait_for_answer()
    assert tasklist.names == []
    tasklist.picture("superseded-afterwards")
    with working(shop.local.settings, "dispatch"):
        shop.comes_to_rest()
    assert [instance.state for instance in shop.engine.find_instances(walk.business_key)] == ["COMPLETED"]
