"""Process instances that somebody deletes in the engine, on the whole suite: nothing is silent, and what a person restarts goes on where it stood.

The reconciler of the suite runs with its own rights; the test only lets the time of its next look come.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Row, text

from domain.fallout import triaging
from domain.fallout.cases import FalloutCase, FalloutType
from domain.fallout.triaging import OpenCase
from domain.findings import ReconciliationFinding
from domain.offers import quotes
from domain.offers.approvals import ApprovalDecision
from domain.store import Cause, unit_of_work
from domain.workflows.starts import WorkflowCorrelation
from reconciliation.duplicates import Duplicates
from reconciliation.repairs import Repairs
from tests.support.suite import Shop, closing_what_is_opened, new_sample
from tests.support.waiting import eventually
from tests.support.walk import Walk
from workers import suite
from workers.demo.driver import SampleQuote
from workers.demo.people import CASE_WORKER, DIRECTOR_AND_FINANCE, MANAGER
from workers.runtime.engine import EngineRefusedError

pytestmark = pytest.mark.stack

PROVISION = "PROVISION_SERVICE"
REASON = "deleted by a test"


def correlation(shop: Shop, business_key: str) -> Row[Any]:
    [row] = shop.rows(WorkflowCorrelation, business_key=business_key)
    return row


def let_it_be_looked_at(shop: Shop, business_key: str) -> None:
    with shop.database.begin() as connection:
        set_back = text("UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE business_key = :key")
        connection.execute(set_back, {"key": business_key})


def delete(shop: Shop, business_key: str) -> str:
    """Delete the registered instance of a business key, and wait until the reconciler has seen it; returns the instance's id."""
    instance_id = str(eventually(lambda: correlation(shop, business_key).process_instance_id, "an instance is registered"))
    eventually(lambda: _is_deleted(shop, instance_id), "the instance can be deleted")
    let_it_be_looked_at(shop, business_key)
    return instance_id


def _is_deleted(shop: Shop, instance_id: str) -> bool:
    with suppress(EngineRefusedError):  # a job has changed it at the same moment
        shop.engine.delete_instance(instance_id, REASON)
    return shop.engine.find(f"/process-instance/{instance_id}") is None


def is_registered_anew(shop: Shop, business_key: str, before: str) -> bool:
    return correlation(shop, business_key).process_instance_id not in {None, before}


def case_of_process(shop: Shop, business_key: str) -> Row[Any]:
    """Wait for the case of the process of a business key."""

    def found() -> list[Row[Any]]:
        cases = shop.rows(FalloutCase, type="WORKFLOW_INCIDENT")
        return [case for case in cases if case.evidence["businessKey"] == business_key]

    return eventually(found, f"a case about {business_key}", patience=60)[0]


def retry(shop: Shop, case: Row[Any]) -> None:
    """Resolve a case over HTTP, as a case worker does."""
    path, [current] = f"/fallout-cases/{case.id}", shop.rows(FalloutCase, id=case.id)
    claimed = shop.api.send(f"{path}/claims", {}, actor=CASE_WORKER, version=current.version).expect(201)
    body = {"resolution": "RETRY", "evidence": "It was deleted by mistake."}
    shop.api.send(f"{path}/resolutions", body, actor=CASE_WORKER, version=claimed["version"]).expect(201)


@contextmanager
def busy_provider(shop: Shop) -> Iterator[None]:
    """Have the provider accept requests that take time, and complete none of them before the block ends."""
    ledger = shop.local.provider.ledger
    latency, ledger._latency = ledger._latency, timedelta(hours=1)
    try:
        yield
    finally:
        with ledger._store.transaction() as connection:  # nothing is accepted meanwhile
            ledger._latency, now = latency, {"now": ledger._clock()}
            connection.execute("UPDATE request SET completes_at = :now WHERE completes_at > :now", now)
            connection.execute("UPDATE callback SET due_at = :now WHERE due_at > :now", now)


def is_provisioning(shop: Shop, order_id: UUID) -> bool:
    return (PROVISION, "IN_PROGRESS") in {(step["stepCode"], step["status"]) for step in shop.order(order_id)["steps"]}


def test_an_order_that_is_half_delivered_is_finished_by_a_new_instance_without_a_second_request(shop: Shop) -> None:
    with busy_provider(shop):
        order_id = shop.accepted_order()
        key = shop.order_key(order_id)
        eventually(lambda: is_provisioning(shop, order_id), "the service is being provisioned", patience=60)
        first = delete(shop, key)
        case = case_of_process(shop, key)
        retry(shop, case)
        eventually(lambda: is_registered_anew(shop, key, first), "a new instance is registered")

    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled", patience=90)
    shop.processes_end()

    assert {entry["requests"] for entry in shop.ledger().values()} == {1}
    assert {entry["net"] for entry in shop.ledger().values()} == {1}
    let_it_be_looked_at(shop, key)
    eventually(lambda: correlation(shop, key).status == "ENDED", "the new instance has ended", patience=30)
    assert shop.changes(correlation(shop, key).id) == ["REQUEST", "REGISTER", "LOSE", "RESTART", "REGISTER", "END"]


def test_an_order_whose_step_has_lost_its_process_is_finished_by_a_new_instance(shop: Shop) -> None:
    """The process of the order runs on, and would wait for the process of its step for ever."""
    with busy_provider(shop):
        order_id = shop.accepted_order()
        key = shop.order_key(order_id)
        eventually(lambda: is_provisioning(shop, order_id), "the service is being provisioned", patience=60)
        [step] = [each for each in shop.order(order_id)["steps"] if each["stepCode"] == PROVISION]
        [called] = shop.engine.find_instances(shop.step_key(UUID(step["stepId"])))
        eventually(lambda: _is_deleted(shop, called.id), "the process of the step can be deleted")
        first, case = str(correlation(shop, key).process_instance_id), case_of_process(shop, key)
        retry(shop, case)
        eventually(lambda: is_registered_anew(shop, key, first), "a new instance is registered")

    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled", patience=90)

    assert case.evidence["called"] == shop.step_key(UUID(step["stepId"]))
    assert {entry["net"] for entry in shop.ledger().values()} == {1}


def approval_of_two(shop: Shop) -> tuple[SampleQuote, str]:
    """Offer a quote that two levels must sign, of which the first has signed; returns its business key."""
    sample = new_sample("30")
    shop.driver.offer(sample)
    shop.driver.decide(sample, MANAGER, "APPROVE")
    shop.driver.task_for(sample, DIRECTOR_AND_FINANCE)
    eventually(lambda: shop.asked(sample), "the director is asked", patience=60)
    return sample, quotes.business_key(shop.tenant_id, UUID(sample.quote["quoteId"]), UUID(sample.quote["revisionId"]))


def test_an_approval_with_one_of_two_signatures_asks_only_for_the_other_one(shop: Shop) -> None:
    sample, key = approval_of_two(shop)
    delete(shop, key)
    case = case_of_process(shop, key)
    assert shop.asked(sample) == []

    retry(shop, case)
    eventually(lambda: shop.asked(sample), "the director is asked again", patience=60)
    shop.driver.decide(sample, DIRECTOR_AND_FINANCE, "APPROVE")

    instance = Walk(engine=shop.engine, business_key=key, instance_id=str(correlation(shop, key).process_instance_id))
    instance.ends_as("Quote approved")
    assert [row.decided_by for row in sorted(shop.rows(ApprovalDecision), key=lambda row: row.created_at)] == [
        MANAGER.subject,
        DIRECTOR_AND_FINANCE.subject,
    ]


def test_the_process_of_a_case_that_is_deleted_asks_again_by_itself(shop: Shop) -> None:
    with unit_of_work(shop.database, Cause(tenant_id=shop.tenant_id, actor="test", command="test")) as uow:
        case = triaging.open_case(uow, OpenCase(type=FalloutType.TECHNICAL, dedupe_key="trouble", detail="Something is wrong."))
    about, asks = f"fallout:{shop.tenant_id}:{case.id}", f"resolution:{shop.tenant_id}:{case.id}"
    [task] = eventually(lambda: shop.engine.user_tasks(asks), "somebody is asked about the case", patience=60)

    delete(shop, about)

    eventually(lambda: {each.id for each in shop.engine.user_tasks(asks)} - {task.id}, "somebody is asked again", patience=60)
    assert [row.id for row in shop.rows(FalloutCase)] == [case.id]


def test_an_instance_that_was_started_by_hand_is_ended_and_the_registered_one_runs_on(shop: Shop) -> None:
    _, key = approval_of_two(shop)
    registered = correlation(shop, key).process_instance_id
    by_hand = shop.engine.start_process(shop.tenant_id, "quote-approval", "started by hand", {"startToken": "made up"})

    with closing_what_is_opened():
        settings = shop.local.settings.of("reconcile")
        engine, database = suite.engine_of(settings), suite.connect(settings, "reconcile")
        sweeps = Duplicates(database, engine, Repairs(database, dry_run=False), timedelta(0))

        def is_ended() -> bool:
            sweeps.sweep()  # one page of the running instances; those of other tests may fill the first one
            return shop.engine.find(f"/process-instance/{by_hand}") is None

        eventually(is_ended, "the instance that was started by hand is ended")

    assert shop.engine.find(f"/process-instance/{registered}") is not None
    [finding] = shop.rows(ReconciliationFinding, kind="duplicate")
    assert (finding.action, finding.evidence["processInstanceId"]) == ("terminated", by_hand)


def test_a_job_that_failed_for_good_gets_a_case_and_a_retry_lets_its_instance_go_on(shop: Shop) -> None:
    with busy_provider(shop):
        order_id = shop.accepted_order()
        key = shop.order_key(order_id)
        eventually(lambda: is_provisioning(shop, order_id), "the service is being provisioned", patience=60)
        instance_id = str(correlation(shop, key).process_instance_id)
        [job, *_] = eventually(lambda: shop.engine.rows("/job", processInstanceId=instance_id), "a timer runs")
        shop.engine.put(f"/job/{job['id']}/retries", {"retries": 0})
        case = case_of_process(shop, key)

        retry(shop, case)

        eventually(lambda: not shop.engine.rows("/incident", processInstanceId=instance_id), "the job is tried again", patience=30)
    assert case.evidence["incidentType"] == "failedJob"
    assert shop.rows(FalloutCase, id=case.id)[0].resolution == "RETRY"
