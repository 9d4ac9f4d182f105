"""Operators in Cockpit, with a browser: they find an instance by its business key, read why it stands, and set it going again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest
from playwright.sync_api import expect
from sqlalchemy import select

from domain.offers import quotes
from domain.offers.approvals import ApprovalRequirement
from domain.store import table_of
from tests.browser.web_apps import WebApps
from tests.support.suite import Shop, new_sample
from tests.support.waiting import eventually
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import MANAGER, OPERATOR
from workers.runtime.engine import Engine, EngineRefusedError
from workers.runtime.engine_processes import CalledInstance

pytestmark = pytest.mark.stack

REQUIREMENT = table_of(ApprovalRequirement)
AWAY = "the database or the engine is away"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The process instance that waits for a manager's signature on a quote."""

    shop: Shop
    sample: SampleQuote
    business_key: str
    instance_id: str
    definition_id: str

    def incidents(self) -> list[dict[str, Any]]:
        return list(self.shop.engine.rows("/incident", processInstanceId=self.instance_id))

    def signature(self) -> tuple[CalledInstance, str]:
        """The process that asks for the signature, and the id of its definition."""
        [called] = self.shop.engine.called_by(self.instance_id)
        return called, self.shop.engine.get(f"/process-instance/{called.id}")["definitionId"]


@pytest.fixture
def approval(shop: Shop) -> Approval:
    """Offer a quote with a discount that sales may not give alone, and wait until its process asks."""
    sample = new_sample("18")
    shop.driver.offer(sample)
    key = quotes.business_key(shop.tenant_id, UUID(sample.quote["quoteId"]), UUID(sample.quote["revisionId"]))
    eventually(lambda: shop.asked(sample), "somebody is asked")
    (instance,) = shop.engine.rows("/process-instance", businessKey=key)
    return Approval(shop=shop, sample=sample, business_key=key, instance_id=instance["id"], definition_id=instance["definitionId"])


def test_an_operator_finds_an_instance_by_its_business_key_and_reads_where_it_stands(web: WebApps, approval: Approval) -> None:
    cockpit = web.cockpit(OPERATOR.id)
    cockpit.find(approval.definition_id, approval.business_key)

    assert approval.instance_id in cockpit.page.url
    expect(cockpit.page.locator(".breadcrumbs-panel")).to_contain_text("Quote approval")
    expect(cockpit.page.locator(".djs-container")).to_contain_text("Approve requirement")
    signature, definition_id = approval.signature()
    cockpit.find(definition_id, signature.business_key)
    cockpit.tab("User Tasks")
    expect(cockpit.rows).to_contain_text(["Approve quote"])


def test_an_incident_says_what_is_wrong_and_the_retry_goes_on_from_there(web: WebApps, approval: Approval) -> None:
    shop = approval.shop
    signature, definition_id = approval.signature()
    with shop.database.connect() as connection:
        # Another transaction keeps the requirement: the worker gives up after its last try.
        connection.execute(select(REQUIREMENT.c.id).filter_by(tenant_id=shop.tenant_id).with_for_update())
        shop.driver.complete_in_tasklist(approval.sample, MANAGER, "APPROVE")
        [failed] = eventually(lambda: tried_in_vain(shop, signature.id), "a failed try")
        shop.engine.put(f"/external-task/{failed['id']}/retries", {"retries": 0})
        eventually(approval.incidents, "an incident")

    cockpit = web.cockpit(OPERATOR.id)
    cockpit.find(definition_id, signature.business_key)
    cockpit.tab("Incidents")
    expect(cockpit.rows.filter(has_text=AWAY)).to_contain_text("Record decision")
    cockpit.retry(AWAY)

    eventually(lambda: not shop.engine.rows("/process-instance", businessKey=approval.business_key), "the instance ends")
    assert [instance.state for instance in shop.engine.find_instances(approval.business_key)] == ["COMPLETED"]
    assert shop.driver.refresh(approval.sample) == "APPROVED"
    log = shop.engine.rows("/history/user-operation", processInstanceId=signature.id, operationType="SetExternalTaskRetries")
    assert OPERATOR.id in {row["userId"] for row in log}


def tried_in_vain(shop: Shop, instance_id: str) -> list[dict[str, Any]]:
    """The tasks of an instance that a worker has tried in vain."""
    return [task for task in shop.engine.rows("/external-task", processInstanceId=instance_id) if task["errorMessage"]]


def test_an_operator_reads_how_a_finished_instance_ended(web: WebApps, approval: Approval) -> None:
    approval.shop.driver.decide_in_tasklist(approval.sample, MANAGER, "APPROVE")
    eventually(lambda: not approval.shop.engine.rows("/process-instance", businessKey=approval.business_key), "the instance ends")

    cockpit = web.cockpit(OPERATOR.id)
    cockpit.open_finished(approval.definition_id)

    expect(cockpit.rows.filter(has_text=approval.business_key)).to_contain_text(["Quote approved"])


def test_an_operator_sees_what_runs_but_ends_and_starts_nothing(shop: Shop, approval: Approval) -> None:
    [key] = shop.signature_keys(approval.sample)
    with closing(Engine(shop.local.settings.engine_url, OPERATOR.id, PEOPLE_PASSWORD)) as as_operator:
        assert [task.name for task in as_operator.user_tasks(key)] == [f"Approve quote {approval.sample.quote['quoteNumber']}"]
        with pytest.raises(EngineRefusedError) as refused:
            as_operator.call("DELETE", f"/process-instance/{approval.instance_id}")
        assert refused.value.status == HTTPStatus.FORBIDDEN
        with pytest.raises(EngineRefusedError) as refused:
            as_operator.start_process(shop.tenant_id, "quote-approval", approval.business_key, {})
        assert refused.value.status == HTTPStatus.FORBIDDEN
