"""T3: one revision is accepted many times at once, and becomes one order. Each layer is shown alone, with the others taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, Row

from domain import accepting
from domain.accepting import ACCEPT, Acceptance
from domain.delivery.orders import ONE_ORDER_PER_REVISION, SalesOrder
from domain.errors import InvalidTransition, TryAgain
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import Quote, QuoteStatus
from domain.store import Move, UnitOfWork, table_of
from domain.store.facts import OutboxEvent
from domain.workflows.starts import WorkflowCorrelation
from tests.support.database import count
from tests.support.guards import allowed_in, without, without_unique
from tests.support.http import Api, accept, acceptance, edit, is_problem
from tests.support.metrics import metric
from tests.support.offers import CUSTOMER, Offer, Offers
from tests.support.races import race_for_row
from tests.support.suite import Shop, open_shop
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.demo.api import Answer
from workers.demo.local_suite import LocalSuite
from workers.demo.people import CUSTOMER as BUYER
from workers.demo.people import Actor
from workers.http import execution
from workers.kafka.topics import ORDERS
from workers.local.stack import LocalStack
from workers.runtime.retries import until_decided

PARTNER = Actor(subject="partner-7", roles=("partner",), customers=BUYER.customers)
RIVALS = 5
ACCEPTED_ONCE = "uq_quote_acceptance_tenant_id_quote_revision_id"


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
    """Kills: taking both the quote's state and the index away (the tests below show each of them)."""
    assert [accepted.order_id for accepted in rush.shop.rows(QuoteAcceptance)] == [rush.order_id]
    assert len(rush.shop.rows(OutboxEvent, event_type="OrderCreated")) == 1


@pytest.mark.stack
def test_each_of_the_fourteen_is_told_the_same_order(rush: Rush) -> None:
    assert {reply.expect(200, 201)["orderId"] for reply in rush.replies} == {str(rush.order_id)}
    assert [reply.status for reply in rush.replies] == [201] * 8 + [200] * 6


@pytest.mark.stack
def test_of_eight_acceptances_under_one_key_seven_are_replays(rush: Rush) -> None:
    """Kills: leaving out the claim of the key."""
    assert [reply.replayed for reply in rush.replies].count(True) == rush.replays == 7


@pytest.mark.stack
def test_another_body_under_a_key_that_was_used_is_refused_and_counted(rush: Rush) -> None:
    assert [(reply.status, reply.body["code"]) for reply in rush.altered] == [(422, "IDEMPOTENCY_KEY_REUSED")] * 2
    assert rush.reuses == 2


@pytest.mark.stack
def test_one_process_instance_works_on_the_order_of_the_fourteen(rush: Rush) -> None:
    """It is the one that passed the gate."""
    shop, key = rush.shop, rush.shop.order_key(rush.order_id)
    eventually(lambda: shop.rows(WorkflowCorrelation, business_key=key, status="STARTED"), "an instance passes the gate")

    [correlation] = shop.rows(WorkflowCorrelation, business_key=key)
    assert [instance.id for instance in shop.engine.find_instances(key)] == [correlation.process_instance_id]


@pytest.mark.stack
def test_kafka_gets_one_event_of_the_order_of_the_fourteen_and_the_audit_finds_nothing(rush: Rush, stack: LocalStack) -> None:
    rush.shop.comes_to_rest()

    first = [each for each in Topics(stack).events(ORDERS) if (each.aggregate_id, each.aggregate_version) == (rush.order_id, 1)]
    assert [event.event_type for event in first] == ["OrderCreated"]
    assert rush.shop.audit().violations == 0


def test_without_the_claim_a_repeat_is_no_replay_and_another_body_is_not_noticed(
    api: Api, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer = offers.approved_quote()
    monkeypatch.setattr(execution, "once", lambda *_: None)
    monkeypatch.setattr(execution, "remember", lambda *_: None)

    replies = [accept(api.customer, offer, key="first") for _ in range(2)]
    altered = api.customer.post(
        f"/quotes/{offer.quote_id}/acceptances", acceptance(offer) | {"channel": "STORE"}, key="first", version=offer.version
    )

    assert [reply.status_code for reply in replies] == [201, 200]
    assert altered.status_code == 200


def test_a_repeat_that_waited_for_a_request_that_is_refused_is_decided_by_itself(api: Api, offers: Offers, db: Engine) -> None:
    """Kills: keeping the claim of a refused command, which would leave its repeat without an answer."""
    offer = offers.approved_quote()

    edited, refused, repeated = (
        future.result()
        for future in race_for_row(
            db,
            table_of(Quote),
            offer.quote_id,
            lambda: api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.body, termMonths=24), version=offer.version),
            lambda: accept(api.customer, offer, key="first"),
            lambda: accept(api.customer, offer, key="first"),
        )
    )

    assert edited.status_code == 200
    for reply in (refused, repeated):
        is_problem(reply, 409, "STALE_APPROVAL")
        assert "Idempotent-Replayed" not in reply.headers


def rivals_accept(db: Engine, offers: Offers, offer: Offer) -> list[Future[Acceptance]]:
    """Accept side by side without an idempotency key, so that nothing stands before the domain."""

    def accept_once() -> Acceptance:
        with offers.uow(CUSTOMER) as uow:
            return accepting.accept(uow, offers.acceptance(offer))

    return race_for_row(db, table_of(Quote), offer.quote_id, *[lambda: until_decided(accept_once)] * RIVALS)


@contextmanager
def state_unchecked() -> Iterator[None]:
    """Let ACCEPT act on an accepted quote too, and without any guard: check-then-act with the check left out."""
    with without(ACCEPT, *range(len(ACCEPT.guards))), allowed_in(ACCEPT, QuoteStatus.ACCEPTED):
        yield


def outcome(db: Engine, offers: Offers, offer: Offer) -> Mapping[str, Any]:
    """What the rivals got, and what is there."""
    futures = rivals_accept(db, offers, offer)
    acceptances = [future.result() for future in futures if future.exception() is None]
    return {
        "new": sum(acceptance.is_new for acceptance in acceptances),
        "order ids": len({acceptance.order.id for acceptance in acceptances}),
        "answered": len(acceptances),
        "refused": sorted({type(error).__name__ for future in futures if (error := future.exception()) is not None}),
        "orders": count(db, SalesOrder),
        "acceptances": count(db, QuoteAcceptance),
    }


ONE_ORDER = {"new": 1, "order ids": 1, "answered": RIVALS, "refused": [], "orders": 1, "acceptances": 1}


def test_without_the_idempotency_layer_one_order_comes_about_and_the_losers_get_its_id(db: Engine, offers: Offers) -> None:
    """Kills: answering the losers of the quote's row with the refusal instead of the order."""
    assert outcome(db, offers, offers.approved_quote()) == ONE_ORDER


def test_without_any_guard_of_the_acceptance_either_its_state_still_lets_one_through(db: Engine, offers: Offers) -> None:
    """Kills: leaving the state out of the WHERE (its twin is the next test)."""
    with without(ACCEPT, *range(len(ACCEPT.guards))):
        assert outcome(db, offers, offers.approved_quote()) == ONE_ORDER


def test_where_all_rivals_pass_a_look_at_the_state_the_unique_index_alone_keeps_it_at_one_order(
    db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: telling the losers of the index no instead of the order that beat them; dropping the index (its twin is the last test)."""
    offer = offers.approved_quote()
    apply = UnitOfWork.apply

    def look_then_act(uow: UnitOfWork, move: Move, command: Any = None, **more: Any) -> Row[Any]:
        if move is ACCEPT and uow.read(Quote, offer.quote_id).status != QuoteStatus.APPROVED:
            raise InvalidTransition
        return apply(uow, move, command, **more)

    monkeypatch.setattr(UnitOfWork, "apply", look_then_act)
    with state_unchecked():
        assert outcome(db, offers, offer) == ONE_ORDER

    assert offers.quote(offer.quote_id).version == offer.version + 1


def test_where_nothing_looks_at_the_state_the_index_leaves_the_losers_undecided_and_without_a_trace(
    db: Engine, offers: Offers
) -> None:
    offer = offers.approved_quote()

    with state_unchecked():
        result = outcome(db, offers, offer)

    assert result == {**ONE_ORDER, "answered": 1, "refused": [TryAgain.__name__]}
    assert offers.quote(offer.quote_id).version == offer.version + 1


def test_without_the_index_as_well_every_rival_gets_an_order_of_its_own(db: Engine, offers: Offers) -> None:
    with without_unique(db, ONE_ORDER_PER_REVISION, ACCEPTED_ONCE), state_unchecked():
        result = outcome(db, offers, offers.approved_quote())

    assert result == {**ONE_ORDER, "new": RIVALS, "order ids": RIVALS, "orders": RIVALS, "acceptances": RIVALS}
