"""The suite that stays up after the demo works without the disorder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic
from uuid import uuid4

import pytest
from rich.console import Console

from tests.support.metrics import metric
from tests.support.suite import Shop, closing_what_is_opened, open_shop, prepared
from tests.support.waiting import eventually
from workers.demo.command import play
from workers.demo.local_suite import LocalSuite
from workers.local.stack import LocalStack

pytestmark = pytest.mark.stack


def proxies() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "fault-proxy"}


@pytest.fixture(scope="module")
def proxies_of_others() -> set[threading.Thread]:
    return proxies()


@pytest.fixture(scope="module")
def after_the_demo(stack: LocalStack, proxies_of_others: set[threading.Thread]) -> Iterator[LocalSuite]:
    """Run the demo without a quote, so that every fault of its disorder is still armed when it ends."""
    with closing_what_is_opened(), prepared(stack) as local:
        play(Console(quiet=True), local, uuid4(), quotes=0, began=monotonic())
        yield local


@pytest.fixture
def shop(after_the_demo: LocalSuite) -> Iterator[Shop]:
    with open_shop(after_the_demo) as shop:
        yield shop


def test_the_provider_behaves_again(after_the_demo: LocalSuite) -> None:
    assert after_the_demo.provider.faults.all() == []


def test_no_request_goes_through_the_proxy_any_more(after_the_demo: LocalSuite, proxies_of_others: set[threading.Thread]) -> None:
    eventually(lambda: proxies() <= proxies_of_others, "the proxy is gone")


def test_a_new_order_is_fulfilled_and_its_start_is_never_unknown(shop: Shop) -> None:
    unknown = metric("q2o_workflow_start_unknown_total", workflow="order-fulfillment")

    order_id = shop.accepted_order()
    shop.comes_to_rest()

    assert shop.order(order_id)["status"] == "FULFILLED"
    assert metric("q2o_workflow_start_unknown_total", workflow="order-fulfillment") == unknown
