"""A quote is accepted while it expires. Exactly one of both comes true, and an order is only of an offer that was valid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, Engine, select, text

from domain.accepting import ACCEPT
from domain.delivery.orders import SalesOrder
from domain.errors import Refusal
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import Quote, QuoteExpired, QuoteStatus, QuoteVersionConflict
from domain.offers.withdrawing import EXPIRE, ExpireQuote, QuoteStillValid, expire
from domain.store import table_of
from reconciliation.quotes import Quotes
from reconciliation.repairs import Repairs
from tests.support.as_read import Offer
from tests.support.database import acting, count
from tests.support.guards import without
from tests.support.http import Api, accept, is_problem
from tests.support.offers import Offers
from tests.support.races import ApiOf, NewOffers, race_for_row
from tests.support.waiting import eventually

MOMENT = timedelta(milliseconds=50)
ROUNDS = 20
EXPIRED = 0  # position of the expiry guard of `quote.accept`
STILL_VALID = 1  # position of the guard of `quote.expire`
REJECTIONS = "q2o_quote_expired_rejections_total"


def ends(connection: Connection, offer: Offer, after: timedelta = timedelta()) -> datetime:
    """Let the offer end so long from now, by the database's clock; returns when."""
    query = text("UPDATE quote SET valid_until = clock_timestamp() + :after WHERE id = :id RETURNING valid_until")
    end: datetime = connection.execute(query, {"after": after, "id": offer.quote_id}).scalar_one()
    return end


def expired_quote(offers: Offers) -> Offer:
    """Make an approved quote whose end has passed; nobody has closed it."""
    offer = offers.approved_quote()
    with offers.engine.begin() as connection:
        ends(connection, offer)
    return offer


def close(offers: Offers, offer: Offer) -> str:
    """Expire the offer as the sweep does; returns what became of that."""
    try:
        with offers.uow("reconciliation") as uow:
            return str(expire(uow, ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version)).status)
    except Refusal as refusal:
        return refusal.code


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """What came of an acceptance and an expiry of one offer."""

    reply: httpx.Response
    closing: str = ""
    status: str
    orders: int
    counted: float  # acceptances that were refused as expired, by the metric


def met(offers: Offers, api: Api, offer: Offer, act: Callable[[], tuple[httpx.Response, str]]) -> Met:
    before = api.metric(REJECTIONS)

    reply, closing = act()

    counted = api.metric(REJECTIONS) - before
    status, orders = offers.quote(offer.quote_id).status, count(offers.engine, SalesOrder)
    return Met(reply=reply, closing=closing, status=status, orders=orders, counted=counted)


def in_turn(offers: Offers, api: Api, offer: Offer, *, accept_first: bool) -> Met:
    """Accept and expire one after the other.

    A write whose condition does not hold waits for nobody, so here there is nothing to queue for. The explorer has them side by side.
    """

    def act() -> tuple[httpx.Response, str]:
        if accept_first:
            return accept(api.customer, offer), close(offers, offer)
        closing = close(offers, offer)
        return accept(api.customer, offer), closing

    return met(offers, api, offer, act)


@pytest.fixture(scope="module")
def ended_meanwhile(new_offers: NewOffers, api_of: ApiOf) -> Met:
    """An acceptance that began in time waits for the row of its quote, and the offer ends while it waits."""
    offers = new_offers()
    api, offer = api_of(offers), offers.approved_quote()

    def act() -> tuple[httpx.Response, str]:
        [late] = race_for_row(
            offers.engine,
            table_of(Quote),
            offer.quote_id,
            lambda: accept(api.customer, offer),
            meanwhile=lambda holder: ends(holder, offer),
        )
        return late.result(), ""

    return met(offers, api, offer, act)


def test_an_acceptance_that_waited_past_the_end_is_told_that_the_offer_has_expired(ended_meanwhile: Met) -> None:
    """Kills: `now()`, which is the transaction's begin, in place of the clock."""
    is_problem(ended_meanwhile.reply, 409, "QUOTE_EXPIRED")


def test_an_acceptance_of_an_expired_offer_is_told_to_have_it_renewed(ended_meanwhile: Met) -> None:
    assert ended_meanwhile.reply.json()["safeUserAction"] == "RENEW_QUOTE"


def test_an_acceptance_that_waited_past_the_end_makes_no_order(ended_meanwhile: Met) -> None:
    assert ended_meanwhile.orders == 0


def test_an_acceptance_that_waited_past_the_end_leaves_the_quote_approved(ended_meanwhile: Met) -> None:
    assert ended_meanwhile.status == QuoteStatus.APPROVED


def test_an_acceptance_that_waited_past_the_end_is_counted(ended_meanwhile: Met) -> None:
    assert ended_meanwhile.counted == 1


@pytest.fixture(scope="module", params=[True, False], ids=["acceptance first", "expiry first"])
def past_the_end(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> Met:
    offers = new_offers()
    offer = expired_quote(offers)

    return in_turn(offers, api_of(offers), offer, accept_first=request.param)


def test_past_the_end_an_acceptance_is_refused_whoever_comes_first(past_the_end: Met) -> None:
    """Kills: dropping the expiry guard of the acceptance (its twins are the tests without that guard)."""
    is_problem(past_the_end.reply, 409, "QUOTE_EXPIRED")


def test_past_the_end_the_expiry_closes_the_offer_whoever_comes_first(past_the_end: Met) -> None:
    assert (past_the_end.closing, past_the_end.status) == (QuoteStatus.EXPIRED, QuoteStatus.EXPIRED)


def test_past_the_end_there_is_no_order_whoever_comes_first(past_the_end: Met) -> None:
    assert past_the_end.orders == 0


@pytest.fixture(scope="module")
def accepted_past_the_end(new_offers: NewOffers, api_of: ApiOf) -> Met:
    offers = new_offers()
    offer = expired_quote(offers)

    with without(ACCEPT, EXPIRED):
        return in_turn(offers, api_of(offers), offer, accept_first=True)


def test_without_the_expiry_guard_an_offer_that_has_ended_is_accepted(accepted_past_the_end: Met) -> None:
    assert accepted_past_the_end.reply.status_code == 201


def test_without_the_expiry_guard_an_order_comes_of_an_offer_that_has_ended(accepted_past_the_end: Met) -> None:
    assert accepted_past_the_end.orders == 1


def test_without_the_expiry_guard_the_expiry_comes_too_late(accepted_past_the_end: Met) -> None:
    assert accepted_past_the_end.closing == QuoteVersionConflict.code


@pytest.fixture(scope="module", params=[True, False], ids=["acceptance first", "expiry first"])
def before_the_end(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> tuple[bool, Met]:
    """Whether the acceptance came first, and what came of both."""
    offers = new_offers()
    offer = offers.approved_quote()

    return request.param, in_turn(offers, api_of(offers), offer, accept_first=request.param)


def test_before_the_end_an_offer_is_accepted_whoever_comes_first(before_the_end: tuple[bool, Met]) -> None:
    """Kills: trusting the sweep's look instead of asking the clock in the write (its twins are the tests that do not ask it)."""
    _, both = before_the_end

    assert both.reply.status_code == 201


def test_before_the_end_an_expiry_is_told_what_is_in_its_way(before_the_end: tuple[bool, Met]) -> None:
    accept_first, both = before_the_end

    assert both.closing == (QuoteVersionConflict.code if accept_first else QuoteStillValid.code)


def test_an_expiry_that_comes_before_the_end_leaves_the_quote_to_its_customer(before_the_end: tuple[bool, Met]) -> None:
    _, both = before_the_end

    assert both.status == QuoteStatus.ACCEPTED


def test_an_expiry_that_comes_before_the_end_leaves_the_customer_one_order(before_the_end: tuple[bool, Met]) -> None:
    _, both = before_the_end

    assert both.orders == 1


@pytest.fixture(scope="module")
def taken_away(new_offers: NewOffers, api_of: ApiOf) -> Met:
    offers = new_offers()
    offer = offers.approved_quote()

    with without(EXPIRE, STILL_VALID):
        return in_turn(offers, api_of(offers), offer, accept_first=False)


def test_without_asking_the_clock_an_expiry_takes_a_valid_offer_away(taken_away: Met) -> None:
    assert taken_away.status == QuoteStatus.EXPIRED


def test_without_asking_the_clock_the_customer_of_a_valid_offer_is_refused(taken_away: Met) -> None:
    assert taken_away.reply.status_code == 409


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What came of an acceptance and a sweep that were let go together, shortly before the end of the offer."""

    end: datetime
    reply: httpx.Response
    status: str
    accepted_at: Sequence[datetime]

    @property
    def outcome(self) -> tuple[str, int, str | None, int]:
        """The status of the quote, the customer's answer with its code, and how many acceptances there are."""
        return self.status, self.reply.status_code, self.reply.json().get("code"), len(self.accepted_at)


@pytest.fixture(scope="module")
def around_the_end(new_offers: NewOffers, api_of: ApiOf) -> Sequence[Round]:
    """No gate holds the two: the end lies in the middle of both, and the database's clock says who was in time."""
    offers = new_offers()
    api = api_of(offers)

    return [one_round(offers, api, offers.approved_quote()) for _ in range(ROUNDS)]


def one_round(offers: Offers, api: Api, offer: Offer) -> Round:
    sweep = Quotes(acting(offers.engine, "reconcile"), Repairs(acting(offers.engine, "reconcile"), dry_run=False))
    together = Barrier(2)
    with offers.engine.begin() as connection:
        end = ends(connection, offer, MOMENT)

    def accept_together() -> httpx.Response:
        together.wait()
        return accept(api.customer, offer)

    def sweep_until_closed() -> None:
        together.wait()
        eventually(lambda: bool(sweep.sweep()) or offers.quote(offer.quote_id).status != QuoteStatus.APPROVED, "it is closed")

    with ThreadPoolExecutor(2) as pool:
        accepted, closing = pool.submit(accept_together), pool.submit(sweep_until_closed)
        reply, _ = accepted.result(), closing.result()
    status, moments = offers.quote(offer.quote_id).status, accepted_at(offers.engine, offer)
    return Round(end=end, reply=reply, status=status, accepted_at=moments)


def accepted_at(db: Engine, offer: Offer) -> list[Any]:
    table = table_of(QuoteAcceptance)
    with db.connect() as connection:
        return list(connection.scalars(select(table.c.accepted_at).where(table.c.quote_id == offer.quote_id)))


def test_of_an_acceptance_and_an_expiry_around_the_end_exactly_one_comes_true(around_the_end: Sequence[Round]) -> None:
    the_acceptance = (QuoteStatus.ACCEPTED, 201, None, 1)
    the_expiry = (QuoteStatus.EXPIRED, 409, QuoteExpired.code, 0)

    assert {each.outcome for each in around_the_end} <= {the_acceptance, the_expiry}


def test_whatever_is_accepted_around_the_end_is_accepted_before_it(around_the_end: Sequence[Round]) -> None:
    assert [moment for each in around_the_end for moment in each.accepted_at if moment >= each.end] == []
