"""A provider that refuses the connection: nothing was sent, and the table of retries says how often the task tries."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from threading import Event

import pytest
from lxml import etree
from sqlalchemy import text

from domain.retry_rules import PROVIDER_NOT_SENT
from domain.workflows import instances
from domain.workflows.keys import BusinessKey, Kind
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.held import RESERVE
from tests.support.offers import Offers
from tests.support.rules import KnownEngine
from tests.unit.test_outcomes import fetched
from workers.pod.outcomes import Failed, run_handler
from workers.pod.retry_policy import RetryPolicy
from workers.providers.http_provider import HttpProvider
from workers.runtime.retries import OutageLog
from workers.tasks.contracts import contracts_of, topics_of
from workers.tasks.fulfillment import Fulfillment
from workers.tasks.subjects import Subjects

MODELS = Path(__file__).parents[2] / "bpmn"
CAMUNDA = "{http://camunda.org/schema/1.0/bpmn}"
EXECUTE = "fulfillment.execute-step"
ASKING = sorted(name for name, contract in contracts_of(Fulfillment).items() if contract.asks_provider)


def test_a_request_that_is_never_sent_is_tried_as_often_as_the_table_says(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    key = BusinessKey(Kind.STEP, offers.tenant_id, (work.step(RESERVE).id,))
    with offers.uow() as uow:
        instances.record_root(uow, "instance-1", str(key))
    database, engine = acting(offers.engine, "tasks"), KnownEngine().door
    given = {"topic": EXECUTE, "tenant_id": str(offers.tenant_id), "business_key": str(key), "properties": {}}
    waits, retries = [], None

    with HttpProvider("http://127.0.0.1:9", "token") as provider:
        handlers = [Fulfillment(database, engine, {"sandbox": provider}, timedelta(minutes=1))]
        topic = topics_of(handlers, Subjects(database, engine))[EXECUTE]
        while retries != 0:
            outcome = run_handler(topic, fetched(retries=retries, **given), Event(), OutageLog("database"))
            assert isinstance(outcome, Failed)
            assert "nothing was sent" in outcome.message
            retries = outcome.retries
            waits.append(outcome.retry_after)

    first, longest = PROVIDER_NOT_SENT.first_wait, PROVIDER_NOT_SENT.longest_wait
    tries = PROVIDER_NOT_SENT.attempts
    assert waits == [*(min(first * 2**number, longest) for number in range(tries - 1)), timedelta(0)]
    with offers.engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM provider_attempt")) == tries


@pytest.mark.parametrize("topic", ASKING)
def test_the_models_try_a_provider_as_often_as_the_table_says(topic: str) -> None:
    policies = [
        each.get("value")
        for model in MODELS.glob("*.bpmn")
        for task in etree.parse(model).iter()
        if task.get(f"{CAMUNDA}topic") == topic
        for each in task.iter(f"{CAMUNDA}property")
        if each.get("name") == "retryPolicy"
    ]

    assert policies
    assert {RetryPolicy.parse(str(each)) for each in policies} == {RetryPolicy.of({}, PROVIDER_NOT_SENT)}
