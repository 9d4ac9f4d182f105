"""M2 and T5: a price book is published around an acceptance. The policy of the price decides, and the order of the commits is the order of the facts."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, Row, select

from domain.catalog import FIBRE, SUPPORT
from domain.delivery.orders import SalesOrder
from domain.offers import approving, price_books
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.price_books import PriceBookHead
from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import QuoteStatus
from domain.store import table_of
from domain.store.facts import OutboxEvent
from tests.support.database import count
from tests.support.http import Api, accept, is_problem
from tests.support.offers import PRICE_BOOK, PRICE_BOOK_VERSION, SIGNATURE, Offer, Offers
from tests.support.waiting import eventually

NEXT = "p-45"
DEAL_DESK = approving.Requirement(
    type="STALE_PRICE",
    level=1,
    approver_group="dealDesk",
    min_authority=Decimal(0),
    because="The price book moved on after pricing.",
    sla=SIGNATURE.sla,
)
CASES = [
    (StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY, [FIBRE], True),
    (StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH, [], False),
    (StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE, [FIBRE], False),
    (StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE, [SUPPORT], True),
    (StalenessPolicy.APPROVAL_REQUIRED_IF_STALE, [FIBRE], False),
]
"""Policy, offerings that the publication calls material, whether the older price may still be accepted."""


def approved(offers: Offers, policy: StalenessPolicy) -> Offer:
    offer = offers.open_requirements(offers.submit(offers.priced_quote(policy)), SIGNATURE)
    return offers.issue_document(offers.decide(offer, offers.requirement_ids(offer)[0]))


def publish(offers: Offers, material: list[str]) -> None:
    offers.publish_prices(NEXT, replaces=PRICE_BOOK_VERSION, material_offering_ids=material)


def acceptances(db: Engine) -> list[Row[Any]]:
    with db.connect() as connection:
        return list(connection.execute(select(table_of(QuoteAcceptance))))


def published_at(db: Engine) -> datetime:
    with db.connect() as connection:
        moment: datetime = connection.scalars(select(table_of(PriceBookHead).c.published_at)).one()
    return moment


@pytest.mark.parametrize(("policy", "material"), [case[:2] for case in CASES if case[2]])
def test_an_older_price_is_accepted_where_its_policy_lets_it_survive_a_publication(
    api: Api, offers: Offers, db: Engine, policy: StalenessPolicy, material: list[str]
) -> None:
    """T5 (a)."""
    offer = approved(offers, policy)
    publish(offers, material)

    reply = accept(api.customer, offer)

    assert reply.status_code == 201
    [accepted] = acceptances(db)
    assert (accepted.price_book_version, accepted.active_price_book_version_seen) == (PRICE_BOOK_VERSION, NEXT)
    assert accepted.staleness_policy == policy
    assert accepted.active_version_published_at == published_at(db) < accepted.accepted_at


@pytest.mark.parametrize(("policy", "material"), [case[:2] for case in CASES if not case[2]])
def test_an_older_price_is_refused_and_counted_where_its_policy_does_not_let_it_survive_a_publication(
    api: Api, offers: Offers, db: Engine, policy: StalenessPolicy, material: list[str]
) -> None:
    """T5 (a). Kills: dropping the price guard of the acceptance; leaving one policy out of it."""
    offer = approved(offers, policy)
    labels = {"command": "accept-quote", "policy": policy.value}
    rejections = api.metric("q2o_stale_price_rejections_total", **labels)
    publish(offers, material)

    reply = accept(api.customer, offer)

    assert is_problem(reply, 409, "STALE_PRICE")["safeUserAction"] == "REPRICE"
    assert (count(db, SalesOrder), offers.quote(offer.quote_id).status) == (0, QuoteStatus.APPROVED)
    assert api.metric("q2o_stale_price_rejections_total", **labels) == rejections + 1


def test_a_stale_price_is_accepted_when_somebody_with_authority_approved_it_on_this_revision(
    api: Api, offers: Offers, db: Engine
) -> None:
    offers.grant_authority("dan", "dealDesk")
    submitted = offers.submit(offers.priced_quote(StalenessPolicy.APPROVAL_REQUIRED_IF_STALE))
    publish(offers, [FIBRE])
    offer = offers.open_requirements(submitted, DEAL_DESK)
    offer = offers.decide(offer, offers.requirement_ids(offer)[0], by="dan", roles=("dealDesk",))
    offer = offers.issue_document(offer)

    reply = accept(api.customer, offer)

    assert reply.status_code == 201
    assert [accepted.active_price_book_version_seen for accepted in acceptances(db)] == [NEXT]


@pytest.mark.parametrize(("policy", "material"), [case[:2] for case in CASES])
def test_a_publication_waits_for_an_acceptance_that_has_looked_at_the_price(
    api: Api, offers: Offers, db: Engine, policy: StalenessPolicy, material: list[str]
) -> None:
    """T5 (b): the order of the older book is accepted before the newer one counts. Kills: reading the head without FOR SHARE."""
    offer = approved(offers, policy)

    reply = _accept_around(db, lambda: accept(api.customer, offer), lambda: publish(offers, material))

    assert reply.status_code == 201
    [accepted] = acceptances(db)
    assert accepted.active_price_book_version_seen == PRICE_BOOK_VERSION
    assert accepted.accepted_at < published_at(db)
    assert events(db) == ["QuoteAccepted", "OrderCreated"]


def test_a_publication_after_the_acceptance_changes_nothing_of_it(api: Api, offers: Offers, db: Engine) -> None:
    """T5 (c)."""
    offer = approved(offers, StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    first = accept(api.customer, offer, key="first")
    publish(offers, [FIBRE])

    again, under_another_key = accept(api.customer, offer, key="first"), accept(api.customer, offer)

    assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
    assert under_another_key.json()["orderId"] == first.json()["orderId"]


def events(db: Engine) -> list[str]:
    table = table_of(OutboxEvent)
    wanted = table.c.event_type.in_(["QuoteAccepted", "OrderCreated"])
    with db.connect() as connection:
        return list(connection.scalars(select(table.c.event_type).where(wanted).order_by(table.c.position)))


def _accept_around(db: Engine, acceptance: Callable[[], Any], publication: Callable[[], None]) -> Any:
    """Let the publication begin when the acceptance has looked at the head and not yet written the quote."""
    with db.connect() as holder, ThreadPoolExecutor(2) as pool:
        holder.exec_driver_sql("SELECT id FROM quote FOR UPDATE")
        accepting = pool.submit(acceptance)
        eventually(lambda: _waiting(holder) >= 1, "the acceptance waits for the quote")
        publishing = pool.submit(publication)
        eventually(lambda: _waiting(holder) >= 2, "the publication waits for the acceptance")
        holder.rollback()
        publishing.result()
        return accepting.result()


def _waiting(holder: Any) -> int:
    return int(holder.exec_driver_sql("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").scalar_one())


def test_of_two_publications_on_the_same_version_one_counts_and_the_other_is_told(api: Api, offers: Offers, db: Engine) -> None:
    """Kills: dropping the guard of `price_book_head.publish`."""
    entries = [{"productOfferingId": FIBRE, "listPrice": "85.00", "unitCost": "40.00"}]
    path = f"/price-books/{PRICE_BOOK}/publications"

    def publication(version: str) -> Callable[[], Any]:
        body = {"expectedActiveVersion": PRICE_BOOK_VERSION, "priceBookVersion": version, "entries": entries}
        return lambda: api.pricer.post(path, body)

    with db.connect() as holder, ThreadPoolExecutor(2) as pool:
        holder.exec_driver_sql("SELECT id FROM price_book_head FOR UPDATE")
        futures = []
        for waiting, version in enumerate(("p-45a", "p-45b"), start=1):
            futures.append(pool.submit(publication(version)))
            eventually(lambda: _waiting(holder) >= waiting, f"{waiting} publications wait")  # noqa: B023 - called at once
        holder.rollback()
        first, second = (future.result() for future in futures)

    assert first.status_code == 201
    is_problem(second, 409, "PRICE_BOOK_CONFLICT")
    with offers.uow() as uow:
        assert price_books.share_head(uow, PRICE_BOOK).active_version == "p-45a"
