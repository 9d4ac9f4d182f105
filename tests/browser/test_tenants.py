"""Two tenants on one engine: each person sees their own work only, in Tasklist and Cockpit, by list, search and link."""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from domain.workflows.keys import PROCESSES
from tests.browser.web_apps import WebApps
from tests.support.logins import hired
from tests.support.offered import Offered
from tests.support.suite import Shop
from workers.demo.people import OPERATOR, RSM

pytestmark = pytest.mark.stack

APPROVERS = RSM.groups[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Both:
    """Two quotes of one tenant and one of the other, which all wait for a regional sales manager."""

    ours: Offered
    second: Offered
    theirs: Offered


@pytest.fixture
def both(shop: Shop, rival: Shop) -> Both:
    both = Both(ours=Offered.at(shop, "18"), second=Offered.at(shop, "19"), theirs=Offered.at(rival, "18"))
    for offered in (both.ours, both.second, both.theirs):
        offered.task()
    return both


def shows(page: Page, tasks: int) -> None:
    """Wait until the list has so many tasks."""
    if tasks:
        expect(page.locator("li.task")).to_have_count(tasks)
    else:
        page.get_by_text("No task matching filters found").first.wait_for()


def search(web: WebApps, page: Page, name: str, value: str) -> None:
    """Search the list for a variable, as the search box does."""
    criteria = [{"type": "processVariables", "operator": "eq", "value": value, "name": name}]
    page.goto(f"{web.start_of('tasklist')}#/?searchQuery={quote(json.dumps(criteria))}")


def test_an_approver_finds_the_tasks_of_their_tenants_by_list_and_search(web: WebApps, both: Both) -> None:
    shop, rival = both.ours.shop, both.theirs.shop
    customer = str(both.ours.sample.quote["customerId"])
    for person, by, tasks in (("ana", (shop,), 2), ("bob", (shop, rival), 3)):
        with hired(person, APPROVERS, by=by):
            page = web.tasklist(person).page
            shows(page, tasks)
            search(web, page, "customerId", customer)
            shows(page, tasks)


def test_a_link_to_a_task_of_another_tenant_shows_nothing_of_it(web: WebApps, both: Both) -> None:
    with hired("ben", APPROVERS, by=(both.theirs.shop,)):
        tasklist = web.tasklist("ben")
        shows(tasklist.page, 1)
        tasklist.page.goto(f"{web.start_of('tasklist')}#/?task={both.ours.task().id}")
        tasklist.page.get_by_text("The task does not exist anymore").wait_for()
        expect(tasklist.page.locator(".fjs-form")).to_have_count(0)
        tasklist.picture("task-of-another-tenant")


def test_an_operator_finds_the_instances_of_their_tenants_by_list_search_and_link(web: WebApps, both: Both) -> None:
    rival, ours = both.theirs.shop, both.ours.task().process_instance_id
    [key] = both.ours.shop.signature_keys(both.ours.sample)
    [definition] = rival.engine.rows("/process-definition", key="approve-requirement", tenantIdIn=str(rival.tenant_id))
    with hired("olga", *OPERATOR.groups, by=(rival,)):
        cockpit = web.cockpit("olga")
        page = cockpit.page
        page.goto(f"{cockpit.address}#/processes")
        expect(page.get_by_text(str(rival.tenant_id), exact=True)).to_have_count(len(PROCESSES))
        expect(page.get_by_text(str(both.ours.shop.tenant_id), exact=True)).to_have_count(0)
        page.goto(f"{cockpit.address}#/process-definition/{definition['id']}/runtime")
        expect(cockpit.rows).to_have_count(1)
        criteria = json.dumps([{"type": "businessKey", "operator": "eq", "value": key, "name": ""}])
        page.goto(f"{cockpit.address}#/process-definition/{definition['id']}/runtime?searchQuery={quote(criteria)}")
        page.get_by_text("No process instances matched by current filter").wait_for()
        page.goto(f"{cockpit.address}#/process-instance/{ours}/runtime")
        page.get_by_text(f"No running process instance with ID {ours}").wait_for()
