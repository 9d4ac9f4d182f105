"""T4: a quote is accepted while it expires. Exactly one of both comes true, and an order is only of an offer that was valid."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, select, text

from domain.accepting import ACCEPT
from domain.delivery.orders import SalesOrder
from domain.errors import Refusal
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.quotes import QuoteExpired, QuoteStatus, QuoteVersionConflict
from domain.offers.withdrawing import EXPIRE, ExpireQuote, QuoteStillValid, expire
from domain.store import table_of
from reconciliation.quotes import Quotes
from reconciliation.repairs import Repairs
from tests.support.database import count
from tests.support.guards import without
from tests.support.http import Api, accept, is_problem
from tests.support.offers import Offer, Offers
from tests.support.waiting import eventually

MOMENT = timedelta(milliseconds=50)
EXPIRED = 0  # position of the expiry guard of `quote.accept`
STILL_VALID = 1  # position of the guard of `quote.expire`


def ends(db: Engine, offer: Offer, after: timedelta) -> datetime:
    """Let the offer end so long from now, by the database's clock; returns when."""
    query = text("UPDATE quote SET valid_until = clock_timestamp() + :after WHERE id = :id RETURNING valid_until")
    with db.begin() as connection:
        end: datetime = connection.execute(query, {"after": after, "id": offer.quote_id}).scalar_one()
    return end


def has_passed(db: Engine, end: datetime) -> bool:
    with db.connect() as connection:
        return bool(connection.scalar(text("SELECT clock_timestamp() > :end"), {"end": end}))


def close(offers: Offers, offer: Offer) -> str:
    """Expire the offer as the sweep does; returns what became of that."""
    try:
        with offers.uow("reconciliation") as uow:
            return str(expire(uow, ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version)).status)
    except Refusal as refusal:
        return refusal.code


def test_an_acceptance_that_waited_past_the_end_is_told_that_the_offer_has_expired(api: Api, offers: Offers, db: Engine) -> None:
    """It began in time. Kills: `now()`, which is the transaction's begin, in place of the clock."""
    offer = offers.approved_quote()
    rejections = api.metric("q2o_quote_expired_rejections_total")

    with db.connect() as holder, ThreadPoolExecutor(1) as pool:
        end = holder.execute(
            text("UPDATE quote SET valid_until = clock_timestamp() + interval '1 second' WHERE id = :id RETURNING valid_until"),
            {"id": offer.quote_id},
        ).scalar_one()
        late = pool.submit(lambda: accept(api.customer, offer))
        eventually(lambda: _waits(db), "the acceptance waits for the quote")
        assert not has_passed(db, end), "the machine was too slow for this test: the acceptance did not begin in time"
        eventually(lambda: has_passed(db, end), "the offer ends")
        holder.commit()

    problem = is_problem(late.result(), 409, "QUOTE_EXPIRED")
    assert problem["safeUserAction"] == "RENEW_QUOTE"
    assert (count(db, SalesOrder), offers.quote(offer.quote_id).status) == (0, QuoteStatus.APPROVED)
    assert api.metric("q2o_quote_expired_rejections_total") == rejections + 1


def _waits(db: Engine) -> bool:
    with db.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@pytest.mark.parametrize("accept_first", [True, False])
def test_past_the_end_an_acceptance_is_refused_and_the_expiry_closes_the_offer_whoever_comes_first(
    api: Api, offers: Offers, db: Engine, *, accept_first: bool
) -> None:
    """Kills: dropping the expiry guard of the acceptance (its twin is the next test)."""
    offer = offers.approved_quote()
    ends(db, offer, timedelta())

    replies = in_turn(lambda: accept(api.customer, offer), lambda: close(offers, offer), accept_first=accept_first)

    is_problem(replies[0], 409, "QUOTE_EXPIRED")
    assert (replies[1], offers.quote(offer.quote_id).status, count(db, SalesOrder)) == (QuoteStatus.EXPIRED, QuoteStatus.EXPIRED, 0)


def test_without_the_guard_an_order_comes_of_an_offer_that_has_ended(api: Api, offers: Offers, db: Engine) -> None:
    offer = offers.approved_quote()
    ends(db, offer, timedelta())

    with without(ACCEPT, EXPIRED):
        replies = in_turn(lambda: accept(api.customer, offer), lambda: close(offers, offer), accept_first=True)

    assert (replies[0].status_code, replies[1], count(db, SalesOrder)) == (201, QuoteVersionConflict.code, 1)


@pytest.mark.parametrize("accept_first", [True, False])
def test_an_expiry_that_comes_before_the_end_leaves_the_offer_to_its_customer(
    api: Api, offers: Offers, db: Engine, *, accept_first: bool
) -> None:
    """Kills: trusting the sweep's look instead of asking the clock in the write (its twin is the next test)."""
    offer = offers.approved_quote()

    replies = in_turn(lambda: accept(api.customer, offer), lambda: close(offers, offer), accept_first=accept_first)

    assert replies[0].status_code == 201
    assert replies[1] == (QuoteVersionConflict.code if accept_first else QuoteStillValid.code)
    assert (offers.quote(offer.quote_id).status, count(db, SalesOrder)) == (QuoteStatus.ACCEPTED, 1)


def test_without_asking_the_clock_an_expiry_takes_a_valid_offer_away(api: Api, offers: Offers, db: Engine) -> None:
    offer = offers.approved_quote()

    with without(EXPIRE, STILL_VALID):
        replies = in_turn(lambda: accept(api.customer, offer), lambda: close(offers, offer), accept_first=False)

    assert (replies[0].status_code, offers.quote(offer.quote_id).status) == (409, QuoteStatus.EXPIRED)


def test_of_an_acceptance_and_an_expiry_around_the_end_exactly_one_comes_true(api: Api, offers: Offers, db: Engine) -> None:
    """The second pass, without gates: the end lies in the middle of both, and the database's clock says who was in time."""
    outcomes = [_around_the_end(api, offers, db) for _ in range(20)]

    assert set(outcomes) <= {QuoteStatus.ACCEPTED, QuoteStatus.EXPIRED}


def _around_the_end(api: Api, offers: Offers, db: Engine) -> str:
    offer = offers.approved_quote()
    sweep = Quotes(db, Repairs(db, dry_run=False))
    together = Barrier(2)
    end = ends(db, offer, MOMENT)

    def accept_together() -> httpx.Response:
        together.wait()
        return accept(api.customer, offer)

    def sweep_until_closed() -> None:
        together.wait()
        eventually(lambda: bool(sweep.sweep()) or offers.quote(offer.quote_id).status != QuoteStatus.APPROVED, "it is closed")

    with ThreadPoolExecutor(2) as pool:
        accepted, closing = pool.submit(accept_together), pool.submit(sweep_until_closed)
        reply, _ = accepted.result(), closing.result()
    status = offers.quote(offer.quote_id).status
    table = table_of(QuoteAcceptance)
    with db.connect() as connection:
        moments = list(connection.scalars(select(table.c.accepted_at).where(table.c.quote_id == offer.quote_id)))
    if status == QuoteStatus.ACCEPTED:
        assert reply.status_code == 201
        assert [moment < end for moment in moments] == [True]
    else:
        is_problem(reply, 409, QuoteExpired.code)
        assert moments == []
    return str(status)


def in_turn(acceptance: Callable[[], Any], closing: Callable[[], Any], *, accept_first: bool) -> list[Any]:
    """One after the other; returns their answers, the acceptance's first.

    A write whose condition does not hold waits for nobody, so here there is nothing to queue for. The explorer has them side by side.
    """
    if accept_first:
        return [acceptance(), closing()]
    closed = closing()
    return [acceptance(), closed]
