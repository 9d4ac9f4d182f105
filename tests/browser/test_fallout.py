"""Case workers in Tasklist, with a browser: they find a case, take it, read what happened, decide, and the order goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from playwright.sync_api import expect

from domain.fallout.cases import FalloutCase, resolution_key
from domain.workflows.keys import Kind, key_of
from tests.browser.web_apps import WebApps
from tests.support.logins import hired
from tests.support.suite import Shop
from tests.support.waiting import eventually
from workers.demo.people import FIRST_LEVEL, SECOND_LEVEL
from workers.sandbox.faults import FaultKind

pytestmark = pytest.mark.stack

CHECK = "CHECK_SERVICEABILITY"


@pytest.fixture
def order_id(shop: Shop) -> UUID:
    """An order of which the provider rejects one step: its case waits for the first level."""
    shop.local.provider.faults.add(FaultKind.REJECT, step_code=CHECK)
    order_id = shop.accepted_order()
    eventually(lambda: shop.rows(FalloutCase), "a case is opened", patience=60)
    key = resolution_key(shop.tenant_id, case_of(shop).id)
    eventually(lambda: shop.engine.user_tasks(key), "somebody is asked", patience=60)
    return order_id


def case_of(shop: Shop) -> FalloutCase:
    [case] = shop.rows(FalloutCase)
    return case  # type: ignore[return-value]  # a row of it, with the same names


@pytest.fixture
def colleague(shop: Shop) -> Iterator[str]:
    """Somebody else of the first level."""
    with hired("carl", FIRST_LEVEL.groups[0], by=(shop,)) as carl:
        yield carl


def test_a_case_worker_reads_what_happened_decides_and_the_order_goes_on(web: WebApps, shop: Shop, order_id: UUID) -> None:
    number = case_of(shop).case_number
    form = web.tasklist(FIRST_LEVEL.id).open_case(number)
    told = ("PROVIDER_REJECTED", CHECK, "rejected on request by the sandbox", "IN\\_PROGRESS → HELD", "EXECUTE sent, attempt 1")
    assert [fact for fact in told if fact.replace("\\", "") not in form.text] == []
    form.claim()
    form.choose("Escalate to the next level")
    form.complete()
    eventually(lambda: case_of(shop).queue == SECOND_LEVEL.groups[0], "the second level is asked")
    form = web.tasklist(SECOND_LEVEL.id).open_case(number)
    form.claim()
    form.choose("Skip the step")
    form.write("Evidence", "The building is known")
    form.picture("resolve-fallout")
    form.complete()

    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled", patience=60)
    case = case_of(shop)
    assert (case.status, case.resolution, case.resolved_by) == ("CLOSED", "SKIP", SECOND_LEVEL.id)
    assert case.resolution_evidence == "The building is known"
    shop.processes_end()


def test_of_two_who_claim_one_has_the_task_and_the_other_sees_who(web: WebApps, shop: Shop, order_id: UUID, colleague: str) -> None:
    number = case_of(shop).case_number
    first, second = web.tasklist(FIRST_LEVEL.id), web.tasklist(colleague)
    form, late = first.open_case(number), second.open_case(number)
    form.claim()

    late.page.click("button.claim")

    expect(late.page.locator("[notifications-panel]")).to_contain_text("is already claimed by someone else")
    late.picture("claimed-by-another")
    again = second.open_case(number)
    expect(again.page.get_by_text(re.compile("anna", re.IGNORECASE)).first).to_be_visible()
    eventually(lambda: case_of(shop).owner_user_id == FIRST_LEVEL.id, "the domain has heard of it, too")


def test_a_step_is_marked_completed_by_two_people(web: WebApps, shop: Shop, order_id: UUID) -> None:
    number = case_of(shop).case_number
    form = web.tasklist(FIRST_LEVEL.id).open_case(number)
    form.claim()
    form.choose("The provider has done it: mark completed")
    form.write("External reference", "CHECK-4711")
    form.write("Evidence", "Seen in the portal")
    form.complete()
    key = key_of(Kind.CONFIRMATION, shop.tenant_id, case_of(shop).id)
    eventually(lambda: shop.engine.user_tasks(key), "a second is asked")

    confirmation = web.tasklist(SECOND_LEVEL.id).open_case(number)
    confirmation.claim()
    confirmation.element.get_by_label("I have seen").check()
    confirmation.write("Comment", "Seen as well")
    confirmation.picture("confirm-resolution")
    confirmation.complete()

    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled", patience=60)
    steps = {step["stepCode"]: step for step in shop.order(order_id)["steps"]}
    assert (steps[CHECK]["status"], steps[CHECK]["externalRef"]) == ("COMPLETED", "CHECK-4711")
    shop.processes_end()
