"""One revision is accepted many times at once, and becomes one order.

Each layer of its protection alone: `tests/races/test_accepting_unprotected.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from domain.delivery.orders import SalesOrder
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import Quote
from domain.store import table_of
from domain.store.facts import TransitionLog
from domain.workflows.starts import WorkflowCorrelation
from tests.support.audits import wrong
from tests.support.http import accept, edit, is_problem
from tests.support.metrics import metric
from tests.support.races import ApiOf, NewOffers, race_for_row
from tests.support.suite import Shop, open_shop
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.demo.api import Answer
from workers.demo.local_suite import LocalSuite
from workers.demo.people import CUSTOMER as BUYER
from workers.demo.people import Actor
from workers.kafka.topics import ORDERS
from workers.local.stack import LocalStack

PARTNER = Actor(subject="partner-7", roles=("partner",), customers=BUYER.customers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rush:
    """What came of fourteen acceptances of one quote at once, and of two requests after them.

    Eight came under one key, four under other keys, two from a partner (`replies`, in this order); then the first key came twice more
    with another body (`altered`). `replays` and `reuses` are how far the counters went up.
    """

    shop: Shop
    replies: Sequence[Answer]
    altered: Sequence[Answer]
    replays: float
    reuses: float

    @property
    def order_id(self) -> UUID:
        [order] = self.shop.rows(SalesOrder)
        return UUID(str(order.id))


def counted() -> tuple[float, float]:
    """The counters of replays, and of keys that came with another body."""
    labels = {"command": "accept-quote"}
    return metric("q2o_idempotency_replays_total", **labels), metric("q2o_idempotency_hash_conflicts_total", **labels)


@pytest.fixture(scope="module")
def rush(running_suite: LocalSuite) -> Iterator[Rush]:
    """Let fourteen acceptances queue at the row of one quote, and let go."""
    with open_shop(running_suite) as shop:
        quote, (replays, reuses) = shop.approved_quote(), counted()
        body, path = shop.api.acceptance(quote), f"/quotes/{quote['quoteId']}/acceptances"

        def click(key: str, actor: Actor = BUYER, **changes: str) -> Callable[[], Answer]:
            return lambda: shop.api.send(path, {**body, **changes}, actor=actor, version=quote["version"], key=key)

        clicks = [
            *(click("first") for _ in range(8)),
            *(click(f"other-{number}") for number in range(4)),
            *(click(f"partner-{number}", PARTNER, channel="PARTNER") for number in range(2)),
        ]
        replies = [future.result() for future in race_for_row(shop.database, table_of(Quote), UUID(quote["quoteId"]), *clicks)]
        altered = [click("first", channel="STORE")() for _ in range(2)]
        replayed, reused = counted()
        yield Rush(shop=shop, replies=replies, altered=altered, replays=replayed - replays, reuses=reused - reuses)


@pytest.mark.stack
def test_fourteen_acceptances_at_once_make_one_order(rush: Rush) -> None:
    """Kills: taking both the quote's state and the index away (`tests/races/test_accepting_unprotected.py` shows each)."""
    assert [accepted.order_id for accepted in rush.shop.rows(QuoteAcceptance)] == [rush.order_id]


@pytest.mark.stack
def test_fourteen_acceptances_at_once_send_one_event_of_an_order(rush: Rush) -> None:
    assert len(rush.shop.rows(TransitionLog, emitted_event_type="OrderCreated")) == 1


@pytest.mark.stack
def test_each_of_the_fourteen_is_told_the_same_order(rush: Rush) -> None:
    assert {reply.expect(200, 201)["orderId"] for reply in rush.replies} == {str(rush.order_id)}


@pytest.mark.stack
def test_those_who_come_under_other_keys_are_told_that_the_order_is_not_new(rush: Rush) -> None:
    assert [reply.status for reply in rush.replies] == [201] * 8 + [200] * 6


@pytest.mark.stack
def test_of_eight_acceptances_under_one_key_seven_are_replays(rush: Rush) -> None:
    """Kills: leaving out the claim of the key."""
    assert [reply.replayed for reply in rush.replies].count(True) == 7


@pytest.mark.stack
def test_the_seven_replays_are_counted(rush: Rush) -> None:
    assert rush.replays == 7


@pytest.mark.stack
def test_another_body_under_a_key_that_was_used_is_refused(rush: Rush) -> None:
    assert [(reply.status, reply.body["code"]) for reply in rush.altered] == [(422, "IDEMPOTENCY_KEY_REUSED")] * 2


@pytest.mark.stack
def test_another_body_under_a_key_that_was_used_is_counted(rush: Rush) -> None:
    assert rush.reuses == 2


@pytest.mark.stack
def test_one_process_instance_works_on_the_order_of_the_fourteen(rush: Rush) -> None:
    """It is the one that passed the gate."""
    shop, key = rush.shop, rush.shop.order_key(rush.order_id)
    eventually(lambda: shop.rows(WorkflowCorrelation, business_key=key, status="STARTED"), "an instance passes the gate")

    [correlation] = shop.rows(WorkflowCorrelation, business_key=key)
    assert [instance.id for instance in shop.engine.find_instances(key)] == [correlation.process_instance_id]


@pytest.fixture(scope="module")
def at_rest(rush: Rush) -> Rush:
    """Let the order of the fourteen be delivered."""
    rush.shop.comes_to_rest()
    return rush


@pytest.mark.stack
def test_kafka_gets_one_event_of_the_order_of_the_fourteen(at_rest: Rush, stack: LocalStack) -> None:
    events = Topics(stack).events(ORDERS)

    of_its_creation = [each for each in events if (each.aggregate_id, each.aggregate_version) == (at_rest.order_id, 1)]
    assert [event.event_type for event in of_its_creation] == ["OrderCreated"]


@pytest.mark.stack
def test_the_audit_finds_nothing_wrong_with_the_order_of_the_fourteen(at_rest: Rush) -> None:
    assert wrong(at_rest.shop.audit()) == []


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """The answers to an edit, and to two acceptances under one key that waited for it at the quote."""

    edit: httpx.Response
    acceptances: Sequence[httpx.Response]


@pytest.fixture(scope="module")
def overtaken(new_offers: NewOffers, api_of: ApiOf) -> Overtaken:
    offers = new_offers()
    api, offer = api_of(offers), offers.approved_quote()

    edited, *accepted = race_for_row(
        offers.engine,
        table_of(Quote),
        offer.quote_id,
        lambda: api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=24), version=offer.version),
        lambda: accept(api.customer, offer, key="first"),
        lambda: accept(api.customer, offer, key="first"),
    )

    return Overtaken(edit=edited.result(), acceptances=[each.result() for each in accepted])


def test_an_edit_that_comes_before_two_acceptances_is_taken(overtaken: Overtaken) -> None:
    assert overtaken.edit.status_code == 200


def test_a_repeat_that_waited_for_a_request_that_is_refused_is_refused_like_it(overtaken: Overtaken) -> None:
    for reply in overtaken.acceptances:
        is_problem(reply, 409, "STALE_APPROVAL")


def test_a_repeat_that_waited_for_a_request_that_is_refused_is_decided_by_itself(overtaken: Overtaken) -> None:
    """Kills: keeping the claim of a refused command, which would leave its repeat without an answer."""
    assert ["Idempotent-Replayed" in reply.headers for reply in overtaken.acceptances] == [False, False]
