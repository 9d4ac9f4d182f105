"""One revision is accepted many times at once: each layer that keeps it at one order is shown alone, with the others taken away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from sqlalchemy import Engine, Row, select

from domain import accepting
from domain.accepting import ACCEPT, Acceptance
from domain.delivery.orders import ONE_ORDER_PER_REVISION, SalesOrder
from domain.errors import InvalidTransition, TryAgain
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import Quote, QuoteStatus
from domain.store import Move, UnitOfWork, table_of
from tests.support.as_read import Offer
from tests.support.database import count
from tests.support.guards import allowed_in, without, without_unique
from tests.support.http import accept, acceptance
from tests.support.offers import CUSTOMER, Offers
from tests.support.races import ApiOf, NewOffers, race_for_row
from workers.http import execution
from workers.runtime.retries import until_decided

RIVALS = 5
ACCEPTED_ONCE = "uq_quote_acceptance_tenant_id_quote_revision_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unclaimed:
    """The answers to two acceptances under one key, and to another body under it, when nobody claims the key."""

    repeats: Sequence[httpx.Response]
    altered: httpx.Response


@pytest.fixture(scope="module")
def unclaimed(new_offers: NewOffers, api_of: ApiOf) -> Unclaimed:
    offers = new_offers()
    buyer, offer = api_of(offers).customer, offers.approved_quote()
    path, altered = f"/quotes/{offer.quote_id}/acceptances", acceptance(offer) | {"channel": "STORE"}

    with patch.multiple(execution, once=lambda *_: None, remember=lambda *_: None):
        repeats = [accept(buyer, offer, key="first") for _ in range(2)]
        return Unclaimed(repeats=repeats, altered=buyer.post(path, altered, key="first", version=offer.version))


def test_without_the_claim_a_repeat_is_no_replay(unclaimed: Unclaimed) -> None:
    assert [reply.status_code for reply in unclaimed.repeats] == [201, 200]


def test_without_the_claim_another_body_is_not_noticed(unclaimed: Unclaimed) -> None:
    assert unclaimed.altered.status_code == 200


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
        "changes": version(db, offer) - offer.version,
    }


def version(db: Engine, offer: Offer) -> int:
    """Read the version of a quote, which may have more orders than the product's own query expects."""
    table = table_of(Quote)
    with db.connect() as connection:
        return int(connection.execute(select(table.c.version).where(table.c.id == offer.quote_id)).scalar_one())


ONE_ORDER = {"new": 1, "order ids": 1, "answered": RIVALS, "refused": [], "orders": 1, "acceptances": 1, "changes": 1}


def test_without_the_idempotency_layer_one_order_comes_about_and_the_losers_get_its_id(db: Engine, offers: Offers) -> None:
    """Kills: answering the losers of the quote's row with the refusal instead of the order."""
    offer = offers.approved_quote()

    result = outcome(db, offers, offer)

    assert result == ONE_ORDER


def test_without_any_guard_of_the_acceptance_either_its_state_still_lets_one_through(db: Engine, offers: Offers) -> None:
    """Kills: leaving the state out of the WHERE (its twin is the next test)."""
    offer = offers.approved_quote()

    with without(ACCEPT, *range(len(ACCEPT.guards))):
        result = outcome(db, offers, offer)

    assert result == ONE_ORDER


def test_where_all_rivals_pass_a_look_at_the_state_the_unique_index_alone_keeps_it_at_one_order(
    db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: refusing the losers of the index instead of telling them the order that beat them; dropping the index.

    The twin of the latter is the last test.
    """
    offer = offers.approved_quote()
    apply = UnitOfWork.apply

    def look_then_act(uow: UnitOfWork, move: Move, command: Any = None, **more: Any) -> Row[Any]:
        if move is ACCEPT and uow.read(Quote, offer.quote_id).status != QuoteStatus.APPROVED:
            raise InvalidTransition
        return apply(uow, move, command, **more)

    monkeypatch.setattr(UnitOfWork, "apply", look_then_act)

    with state_unchecked():
        result = outcome(db, offers, offer)

    assert result == ONE_ORDER


def test_where_nothing_looks_at_the_state_the_index_leaves_the_losers_undecided_and_without_a_trace(
    db: Engine, offers: Offers
) -> None:
    offer = offers.approved_quote()

    with state_unchecked():
        result = outcome(db, offers, offer)

    assert result == {**ONE_ORDER, "answered": 1, "refused": [TryAgain.__name__]}


def test_without_the_index_as_well_every_rival_gets_an_order_of_its_own(db: Engine, offers: Offers) -> None:
    offer = offers.approved_quote()

    with without_unique(db, ONE_ORDER_PER_REVISION, ACCEPTED_ONCE), state_unchecked():
        result = outcome(db, offers, offer)

    everyone = dict.fromkeys(("new", "order ids", "orders", "acceptances", "changes"), RIVALS)
    assert result == {**ONE_ORDER, **everyone}
