"""The whole suite by way of PgBouncer in transaction mode: edge, pods, dispatcher, relay, inbox and sweeps."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from domain.delivery.orders import SalesOrder
from domain.rights import PROCESSES
from tests.support.audits import wrong
from tests.support.pgbouncer import NEW, pgbouncer, through
from tests.support.suite import EVERYTHING, Shop, open_shop, prepared, working
from tests.support.waiting import eventually
from workers.local.logins import addresses_of_processes
from workers.local.stack import LocalStack
from workers.runtime.environment import variable

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def shop(stack: LocalStack) -> Iterator[Shop]:
    """A tenant of the suite, whose processes have no other way to the database."""
    addresses = addresses_of_processes(stack.environment["Q2O_DATABASE_URL"])
    with pgbouncer(NEW, *addresses.values()) as port, prepared(stack) as local:
        own = {f"{process}_database_url": through(port, addresses[variable(f"{process}_database_url")]) for process in PROCESSES}
        with working(local.settings.having(**own), *EVERYTHING), open_shop(local) as shop:
            yield shop


def test_an_order_is_fulfilled(shop: Shop) -> None:
    order_id = shop.accepted_order()

    eventually(lambda: shop.order(order_id)["status"] == "FULFILLED", "the order is fulfilled")


def test_a_quote_that_is_accepted_many_times_at_once_becomes_one_order(shop: Shop) -> None:
    quote, known = shop.approved_quote(), len(shop.rows(SalesOrder))
    body = shop.api.acceptance(quote)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda number: shop.api.accept(quote, body, f"key-{number % 3}"), range(8)))

    assert 201 in {answer.status for answer in answers}
    assert len(shop.rows(SalesOrder)) == known + 1


def test_no_invariant_is_broken(shop: Shop) -> None:
    shop.comes_to_rest()

    assert wrong(shop.audit()) == []
