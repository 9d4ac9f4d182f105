"""An engine with the accounts of the processes and with people, an order's instance, and a task that asks somebody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.support.models import new_name
from tests.support.waiting import eventually
from workers import suite
from workers.accounts import set_up_accounts
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.demo.people import PEOPLE, RSM
from workers.deployment import DEPLOYMENT, add_people, set_up
from workers.deployment import deploy as deploy_models
from workers.local.stack import LocalStack
from workers.runtime.engine import Engine, UserTask
from workers.runtime.settings import Settings

LOCK = timedelta(seconds=20)
ASKED = {
    "isDecided": False,
    "approverGroup": RSM.groups[0],
    "escalationLevel": 0,
    "quoteNumber": "Q-1",
    "requirementType": "DISCOUNT",
    "customerId": "C-1001",
    "netTotal": "12.00",
    "remindAt": "2999-01-01T00:00:00",
    "dueAt": "2999-01-02T00:00:00",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An engine with models, people and accounts, an order's instance that no worker serves, and a task for a regional sales manager."""

    settings: Settings
    administrator: Engine
    tenant: UUID
    deployment: str
    order: str
    task: UserTask

    def account(self, process: str) -> closing[Engine]:
        return closing(suite.engine_of(self.settings.of(process)))

    def person(self, name: str) -> closing[Engine]:
        return closing(Engine(self.settings.engine_url, name, PEOPLE_PASSWORD))


@pytest.fixture(scope="module")
def site(stack: LocalStack) -> Iterator[Site]:
    settings = Settings(stack.environment)
    with closing(suite.engine_of(settings)) as engine:
        set_up_accounts(engine, settings)
        set_up(engine)
        add_people(engine, PEOPLE, PEOPLE_PASSWORD)
        tenant = uuid4()
        deploy_models(engine, tenant)
        in_force = engine.deployment_in_force(tenant, DEPLOYMENT)
        assert in_force is not None
        for person in PEOPLE:
            engine.ensure_user_in_tenant(tenant, person.id)
        variables = {"tenantId": str(tenant), "orderId": "o", "startToken": "s"}
        order = engine.start_process(tenant, "order-fulfillment", new_name("order"), variables)
        task = ask_approver(engine, tenant)
        yield Site(settings=settings, administrator=engine, tenant=tenant, deployment=in_force.id, order=order, task=task)
        for instance in (order, task.process_instance_id):
            engine.delete_instance(instance, "its test is over")


def ask_approver(engine: Engine, tenant: UUID) -> UserTask:
    """Start the process of a signature, and prepare its form as a worker does."""
    key = new_name("approval")
    instance = engine.start_process(tenant, "approve-requirement", key, {})
    [row] = engine.rows("/external-task", processInstanceId=instance)
    engine.lock(row["id"], LOCK)
    engine.complete(row["id"], {name: {"value": value} for name, value in ASKED.items()})
    [task] = eventually(lambda: engine.user_tasks(key), "somebody is asked")
    return task
