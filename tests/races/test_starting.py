"""An order's process was started more than once, on the product's own model. One instance passes the gate, the others do nothing.

The rivals are forced to the gate together: the row that decides is held until each of their workers waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine as Database

from domain.delivery.steps import FulfillmentPlan, FulfillmentStep
from domain.store import table_of, unit_of_work
from domain.store.facts import WorkflowCommand, WorkflowCommandKind
from domain.workflows import starts
from domain.workflows.starts import REGISTER, CorrelationStatus, DuplicateWorkflow, RegisterWorkflow, WorkflowCorrelation
from tests.support.audits import wrong
from tests.support.guards import allowed_in
from tests.support.races import race_for_row, refusals
from tests.support.suite import EVERYTHING, Shop, open_shop, prepared, working
from tests.support.waiting import eventually
from tests.support.wanted import Wanted
from workers.demo.local_suite import LocalSuite
from workers.local.stack import LocalStack

ENGINE_SIDE = ("dispatch", "tasks")


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run everything but what starts processes and works in them: each test does that at its own time."""
    with prepared(stack) as local, working(local.settings, *EVERYTHING.difference(ENGINE_SIDE)):
        yield local


def start_and_pass(shop: Shop, command: Any) -> Callable[[], str]:
    """Start an instance as the command says and wait until it was at the gate; returns its id."""

    def start() -> str:
        instance_id = shop.engine.start_process(shop.tenant_id, command.name, command.business_key, command.variables)
        gate = {"processInstanceId": instance_id, "topicName": "workflow.register"}
        eventually(lambda: not shop.engine.rows("/external-task", **gate), f"instance {instance_id} was at the gate")
        return instance_id

    return start


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """An order whose process was started three times, when all three instances have ended."""

    shop: Shop
    order_id: UUID

    @property
    def passed(self) -> str:
        """The instance that passed the gate."""
        [correlation] = self.shop.rows(WorkflowCorrelation, business_key=self.shop.order_key(self.order_id))
        return str(correlation.process_instance_id)

    @property
    def others(self) -> list[str]:
        """The instances that the gate turned away."""
        instances = self.shop.engine.find_instances(self.shop.order_key(self.order_id))
        return [each.id for each in instances if each.id != self.passed]


@pytest.fixture(scope="module")
def delivered(running_suite: LocalSuite) -> Iterator[Delivered]:
    """Start two instances by hand and let them come to the gate together; the dispatcher knows nothing of the two, and starts the third."""
    with open_shop(running_suite) as shop:
        settings = shop.local.settings
        with working(settings, *ENGINE_SIDE):
            quote = shop.approved_quote()
        order_id = UUID(shop.api.accept(quote, shop.api.acceptance(quote), "accept").expect(201)["orderId"])
        key = shop.order_key(order_id)
        [command] = shop.rows(WorkflowCommand, business_key=key, kind=WorkflowCommandKind.START)
        [correlation] = shop.rows(WorkflowCorrelation, business_key=key)
        with working(settings, "tasks"):
            race_for_row(shop.database, table_of(WorkflowCorrelation), correlation.id, *[start_and_pass(shop, command)] * 2)
            with working(settings, "dispatch"):
                shop.comes_to_rest()
                eventually(lambda: is_over(shop, key), "all three end")
        yield Delivered(shop=shop, order_id=order_id)


@pytest.mark.stack
def test_of_three_instances_of_one_order_one_delivers_it_and_the_others_end_as_duplicates(delivered: Delivered) -> None:
    """Kills: letting a second instance with the right token pass (its twin is the last test)."""
    ends = [delivered.shop.ends(instance_id) for instance_id in (delivered.passed, *delivered.others)]

    assert ends == [{"Order fulfilled"}, {"Duplicate start"}, {"Duplicate start"}]


@pytest.mark.stack
def test_a_duplicate_of_a_process_does_nothing(delivered: Delivered) -> None:
    assert [delivered.shop.engine.work_of(instance_id) for instance_id in delivered.others] == [set(), set()]


@pytest.mark.stack
def test_an_order_whose_process_was_started_three_times_is_fulfilled(delivered: Delivered) -> None:
    assert delivered.shop.order(delivered.order_id)["status"] == "FULFILLED"


@pytest.mark.stack
def test_an_order_whose_process_was_started_three_times_is_planned_once(delivered: Delivered) -> None:
    shop = delivered.shop

    assert (len(shop.rows(FulfillmentPlan)), len(shop.rows(FulfillmentStep))) == (1, 7)


@pytest.mark.stack
def test_an_order_whose_process_was_started_three_times_is_delivered_once(delivered: Delivered) -> None:
    entries = delivered.shop.ledger().values()

    assert [(entry["requests"], entry["effects"]) for entry in entries] == [(1, 1)] * 7


@pytest.mark.stack
def test_the_audit_finds_nothing_wrong_with_an_order_whose_process_was_started_three_times(delivered: Delivered) -> None:
    assert wrong(delivered.shop.audit()) == []


def is_over(shop: Shop, business_key: str) -> bool:
    instances = shop.engine.find_instances(business_key)
    return len(instances) == 3 and not any(instance.runtime for instance in instances)


def rivals_at_the_gate(db: Database) -> list[Future[None]]:
    """Two instances with the right token come to the gate together."""
    wanted = Wanted.of(db, "order-fulfillment")
    command = {"business_key": wanted.business_key, "start_token": wanted.correlation.start_token}

    def register(instance_id: str) -> None:
        with unit_of_work(db, wanted.cause) as uow:
            starts.register(uow, RegisterWorkflow(process_instance_id=instance_id, **command))

    rivals = (lambda: register("one"), lambda: register("other"))
    return race_for_row(db, table_of(WorkflowCorrelation), wanted.correlation.id, *rivals)


def test_the_second_of_two_instances_at_the_gate_is_a_duplicate(db: Database) -> None:
    rivals = rivals_at_the_gate(db)

    assert refusals(rivals) == [None, DuplicateWorkflow]


def test_without_the_look_at_its_state_a_gate_lets_every_instance_pass(db: Database) -> None:
    with allowed_in(REGISTER, CorrelationStatus.STARTED):
        rivals = rivals_at_the_gate(db)

    assert refusals(rivals) == [None, None]
