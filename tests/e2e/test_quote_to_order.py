"""The main job on the whole stack: a quote is created over HTTP, and its order is fulfilled without help from the test.

One quote needs no signature, the other one needs a manager's, given in Tasklist under the manager's own login. Both run once, and then each
test asks one part what it has recorded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from domain.auditing.invariants import INVARIANTS, Side
from domain.offers import quotes
from domain.offers.approvals import ApprovalDecision
from domain.projections.tables import OrderSearchProjection
from tests.integration.test_command_line import q2o_process
from tests.support.evidence import record
from tests.support.settled import IN_ORDER
from tests.support.suite import Shop, new_sample, open_shop
from tests.support.topics import Topics
from workers.demo.courses import approved_automatically, approved_in_tasklist
from workers.demo.driver import SampleQuote
from workers.demo.local_suite import LocalSuite
from workers.demo.people import MANAGER
from workers.kafka.topics import ORDERS
from workers.local.stack import LocalStack

pytestmark = pytest.mark.stack

TASKS_BESIDE_STEPS = 3  # register, decompose, evaluate
TIMERS = 2  # when a loaded machine delivers a message after 30 s, the process checks once more


@dataclass(frozen=True, slots=True, kw_only=True)
class Business:
    """Two quotes and their orders, once no work is left."""

    shop: Shop
    automatic: SampleQuote
    signed: SampleQuote

    @property
    def orders(self) -> list[dict[str, Any]]:
        return [self.shop.order(self.order_id(sample)) for sample in (self.automatic, self.signed)]

    @staticmethod
    def order_id(sample: SampleQuote) -> UUID:
        return UUID(sample.order["orderId"])


@pytest.fixture(scope="module")
def business(running_suite: LocalSuite) -> Iterator[Business]:
    """Take both sample quotes to their orders, at the same time."""
    with open_shop(running_suite) as shop:
        automatic, signed = new_sample("5"), new_sample("18")
        with ThreadPoolExecutor(2) as pool:
            ends = [
                pool.submit(approved_automatically, shop.driver, automatic),
                pool.submit(approved_in_tasklist, shop.driver, signed),
            ]
        assert [end.result() for end in ends] == ["FULFILLED", "FULFILLED"]
        shop.comes_to_rest()
        yield Business(shop=shop, automatic=automatic, signed=signed)


def test_both_orders_are_fulfilled_with_every_step_completed(business: Business) -> None:
    for order in business.orders:
        assert order["status"] == "FULFILLED"
        assert {step["stepCode"]: step["status"] for step in order["steps"]} == dict.fromkeys(IN_ORDER, "COMPLETED")


def test_steps_do_not_touch_the_row_of_their_order(business: Business) -> None:
    """The order has four versions: created, submitted, planned, fulfilled. Parallel steps never wait for its row."""
    assert [order["version"] for order in business.orders] == [4, 4]


def test_each_step_had_one_request_and_one_effect_at_the_provider(business: Business) -> None:
    wanted = {UUID(step["stepId"]) for order in business.orders for step in order["steps"]}

    ledger = business.shop.ledger()

    assert set(ledger) == wanted
    assert {(entry["requests"], entry["effects"], entry["status"]) for entry in ledger.values()} == {(1, 1, "COMPLETED")}


def test_the_signature_names_the_login_that_completed_the_task_in_tasklist(business: Business) -> None:
    [decision] = business.shop.rows(ApprovalDecision)

    assert str(decision.quote_id) == business.signed.quote["quoteId"]
    assert (decision.decision, decision.decided_by) == ("APPROVE", MANAGER.subject)


def test_kafka_has_the_events_of_each_order_in_the_order_of_their_versions(business: Business, stack: LocalStack) -> None:
    events = Topics(stack).events(ORDERS)

    for sample in (business.automatic, business.signed):
        told = [(event.aggregate_version, event.event_type) for event in events if event.aggregate_id == business.order_id(sample)]
        assert told == [(1, "OrderCreated"), (2, "OrderSubmitted"), (3, "OrderStarted"), (4, "OrderFulfilled")]


def test_the_search_view_of_each_order_has_the_version_of_the_order(business: Business) -> None:
    for order in business.orders:
        [view] = business.shop.rows(OrderSearchProjection, order_id=UUID(order["orderId"]))
        assert (view.aggregate_version, view.status, view.order_number) == (4, "FULFILLED", order["orderNumber"])


def test_every_process_ended_by_itself_and_has_its_business_key(business: Business) -> None:
    shop = business.shop
    keys = []
    for sample, order in zip((business.automatic, business.signed), business.orders, strict=True):
        keys.append(quotes.business_key(shop.tenant_id, UUID(sample.quote["quoteId"]), UUID(sample.quote["revisionId"])))
        keys += shop.signature_keys(sample)
        keys.append(shop.order_key(UUID(order["orderId"])))
        keys += [shop.step_key(UUID(step["stepId"])) for step in order["steps"]]

    instances = shop.instances()

    assert sorted(instance.business_key for instance in instances) == sorted(keys)
    assert {instance.state for instance in instances} == {"COMPLETED"}


def test_an_order_costs_one_external_task_per_step_and_three(business: Business) -> None:
    shop = business.shop
    by_key = {instance.business_key: instance.id for instance in shop.instances()}

    for order in business.orders:
        ours = [shop.order_key(UUID(order["orderId"])), *(shop.step_key(UUID(step["stepId"])) for step in order["steps"])]
        tasks = shop.external_tasks(*(by_key[key] for key in ours))
        assert TASKS_BESIDE_STEPS + len(order["steps"]) <= tasks <= TASKS_BESIDE_STEPS + len(order["steps"]) + TIMERS
        record("external tasks of an order of seven steps", tasks, "tasks")


def test_the_audit_command_reaches_every_side_and_finds_nothing(business: Business) -> None:
    """The command runs in a process of its own, with the settings that `q2o up` gives to another shell."""
    shop = business.shop
    settings = {name.removeprefix("Q2O_").lower(): value for name, value in shop.local.environment.items()}

    ended = q2o_process(Path(settings.pop("data_dir")), "audit", "--settled", "--json", "--tenant", str(shop.tenant_id), **settings)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    [report] = json.loads(ended.stdout)["audits"]
    assert report["outOfReach"] == []
    assert [violation for check in report["checks"] for violation in check["violations"]] == []
    checks = {check["code"]: check for check in report["checks"]}
    unseen = {code for code, check in checks.items() if check["notLookedAt"]}
    assert unseen == {code for code, each in INVARIANTS.items() if each.side is Side.CLIENTS}
    assert checks["I8"]["counted"]["effects"] == len(business.orders) * len(IN_ORDER)
