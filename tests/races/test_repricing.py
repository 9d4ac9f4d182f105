"""A price book is published around an acceptance.

The policy of the price decides, and the order of the commits is the order of the facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, Row, select

from domain.catalog import FIBRE, SUPPORT
from domain.delivery.orders import SalesOrder
from domain.offers import approving
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.price_books import PriceBookHead
from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import Quote, QuoteStatus
from domain.store import table_of
from domain.store.facts import OutboxEvent
from tests.support.as_read import Offer
from tests.support.database import count, in_order
from tests.support.http import Api, accept, is_problem
from tests.support.offers import PRICE_BOOK_VERSION, SIGNATURE, Offers
from tests.support.races import ApiOf, NewOffers, race_for_row

NEXT = "p-45"
REJECTIONS = "q2o_stale_price_rejections_total"
DEAL_DESK = approving.Requirement(
    type="STALE_PRICE",
    level=1,
    approver_group="dealDesk",
    min_authority=Decimal(0),
    because="The price book moved on after pricing.",
    sla=SIGNATURE.sla,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A price book version that is published around the acceptance of a price with this policy."""

    policy: StalenessPolicy
    material: Sequence[str]  # the offerings whose price it changes materially

    def __str__(self) -> str:
        return f"{self.policy} {'+'.join(self.material) or 'nothing material'}"


SURVIVED = [
    Publication(policy=StalenessPolicy.VALID_UNTIL_QUOTE_EXPIRY, material=[FIBRE]),
    Publication(policy=StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE, material=[SUPPORT]),
]
NOT_SURVIVED = [
    Publication(policy=StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH, material=[]),
    Publication(policy=StalenessPolicy.REPRICE_ON_MATERIAL_CHANGE, material=[FIBRE]),
    Publication(policy=StalenessPolicy.APPROVAL_REQUIRED_IF_STALE, material=[FIBRE]),
]
"""Publications after which the older price may still be accepted, and those after which it may not. The quote is of fibre."""


def approved(offers: Offers, policy: StalenessPolicy) -> Offer:
    offer = offers.open_requirements(offers.submit(offers.priced_quote(policy)), SIGNATURE)
    return offers.issue_document(offers.decide(offer, offers.requirement_ids(offer)[0]))


def publish(offers: Offers, material: Sequence[str]) -> None:
    offers.publish_prices(NEXT, replaces=PRICE_BOOK_VERSION, material_offering_ids=list(material))


def rows(db: Engine, entity: Any) -> list[Row[Any]]:
    table = table_of(entity)
    with db.connect() as connection:
        return list(connection.execute(in_order(select(*table.c), table)))


def head(db: Engine) -> Row[Any]:
    [found] = rows(db, PriceBookHead)
    return found


def events(db: Engine) -> list[str]:
    table = table_of(OutboxEvent)
    wanted = table.c.event_type.in_(["QuoteAccepted", "OrderCreated"])
    with db.connect() as connection:
        return list(connection.scalars(select(table.c.event_type).where(wanted).order_by(table.c.position)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What came of a publication and an acceptance."""

    publication: Publication
    reply: httpx.Response
    published_at: datetime
    acceptances: Sequence[Row[Any]]
    orders: int
    statuses: Sequence[str]  # of the quotes
    events: Sequence[str]
    counted: float  # prices of this policy that were refused as stale, by the metric
    active_meanwhile: Sequence[str] = ()  # the version that counted while an acceptance waited

    @property
    def accepted(self) -> Row[Any]:
        [accepted] = self.acceptances
        return accepted


def around(offers: Offers, api: Api, publication: Publication, act: Callable[[], httpx.Response]) -> Around:
    labels = {"command": "accept-quote", "policy": publication.policy.value}
    before = api.metric(REJECTIONS, **labels)

    reply = act()

    return Around(
        publication=publication,
        reply=reply,
        published_at=head(offers.engine).published_at,
        acceptances=rows(offers.engine, QuoteAcceptance),
        orders=count(offers.engine, SalesOrder),
        statuses=[quote.status for quote in rows(offers.engine, Quote)],
        events=events(offers.engine),
        counted=api.metric(REJECTIONS, **labels) - before,
    )


def accepted_after(offers: Offers, api: Api, publication: Publication) -> Around:
    offer = approved(offers, publication.policy)
    publish(offers, publication.material)

    return around(offers, api, publication, lambda: accept(api.customer, offer))


@pytest.fixture(scope="module", params=SURVIVED, ids=str)
def survived(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> Around:
    offers = new_offers()
    return accepted_after(offers, api_of(offers), request.param)


def test_an_older_price_is_accepted_where_its_policy_lets_it_survive_a_publication(survived: Around) -> None:
    assert survived.reply.status_code == 201


def test_an_acceptance_keeps_the_version_of_its_price_and_the_version_that_counted(survived: Around) -> None:
    versions = survived.accepted.price_book_version, survived.accepted.active_price_book_version_seen

    assert versions == (PRICE_BOOK_VERSION, NEXT)


def test_an_acceptance_of_an_older_price_keeps_the_policy_that_allowed_it(survived: Around) -> None:
    assert survived.accepted.staleness_policy == survived.publication.policy


def test_an_acceptance_keeps_when_the_version_that_counted_was_published(survived: Around) -> None:
    assert survived.accepted.active_version_published_at == survived.published_at


def test_an_acceptance_of_an_older_price_is_later_than_the_publication(survived: Around) -> None:
    assert survived.accepted.accepted_at > survived.published_at


@pytest.fixture(scope="module", params=NOT_SURVIVED, ids=str)
def stale(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> Around:
    offers = new_offers()
    return accepted_after(offers, api_of(offers), request.param)


def test_an_older_price_is_refused_where_its_policy_does_not_let_it_survive_a_publication(stale: Around) -> None:
    """Kills: dropping the price guard of the acceptance; leaving one policy out of it."""
    is_problem(stale.reply, 409, "STALE_PRICE")


def test_a_customer_whose_price_is_stale_is_told_to_have_it_made_anew(stale: Around) -> None:
    assert stale.reply.json()["safeUserAction"] == "REPRICE"


def test_no_order_comes_of_a_stale_price(stale: Around) -> None:
    assert stale.orders == 0


def test_a_quote_whose_price_is_stale_stays_approved(stale: Around) -> None:
    assert stale.statuses == [QuoteStatus.APPROVED]


def test_a_refused_price_is_counted_under_its_policy(stale: Around) -> None:
    assert stale.counted == 1


@pytest.fixture(scope="module", params=[*SURVIVED, *NOT_SURVIVED], ids=str)
def accepted_first(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> Around:
    """The publication begins when the acceptance has looked at the head and not yet written the quote."""
    offers, publication = new_offers(), request.param
    api, offer, active = api_of(offers), approved(offers, publication.policy), list[str]()
    rivals: tuple[Callable[[], Any], ...] = (lambda: accept(api.customer, offer), lambda: publish(offers, publication.material))

    def act() -> httpx.Response:
        accepting, publishing = race_for_row(
            offers.engine,
            table_of(Quote),
            offer.quote_id,
            *rivals,
            meanwhile=lambda _: active.append(head(offers.engine).active_version),
        )
        publishing.result()
        reply: httpx.Response = accepting.result()
        return reply

    return replace(around(offers, api, publication, act), active_meanwhile=active)


def test_an_acceptance_that_has_looked_at_the_price_is_made_whatever_is_published(accepted_first: Around) -> None:
    assert accepted_first.reply.status_code == 201


def test_an_acceptance_that_has_looked_at_the_price_keeps_the_older_version_as_the_one_that_counted(accepted_first: Around) -> None:
    assert accepted_first.accepted.active_price_book_version_seen == PRICE_BOOK_VERSION


def test_a_publication_waits_for_an_acceptance_that_has_looked_at_the_price(accepted_first: Around) -> None:
    """Kills: reading the head without FOR SHARE."""
    assert accepted_first.active_meanwhile == [PRICE_BOOK_VERSION]


def test_the_order_of_the_older_book_is_accepted_before_the_newer_one_counts(accepted_first: Around) -> None:
    assert accepted_first.accepted.accepted_at < accepted_first.published_at


def test_an_acceptance_before_a_publication_sends_its_events_in_their_order(accepted_first: Around) -> None:
    assert accepted_first.events == ["QuoteAccepted", "OrderCreated"]


@pytest.fixture(scope="module")
def stale_but_approved(new_offers: NewOffers, api_of: ApiOf) -> Around:
    """A price that went stale after its quote was submitted, and that somebody with authority approved on this revision."""
    offers = new_offers()
    api, publication = api_of(offers), Publication(policy=StalenessPolicy.APPROVAL_REQUIRED_IF_STALE, material=[FIBRE])
    offers.grant_authority("dan", "dealDesk")
    submitted = offers.submit(offers.priced_quote(publication.policy))
    publish(offers, publication.material)
    asked = offers.open_requirements(submitted, DEAL_DESK)
    offer = offers.issue_document(offers.decide(asked, offers.requirement_ids(asked)[0], by="dan", roles=("dealDesk",)))

    return around(offers, api, publication, lambda: accept(api.customer, offer))


def test_a_stale_price_is_accepted_when_somebody_with_authority_approved_it_on_this_revision(stale_but_approved: Around) -> None:
    assert stale_but_approved.reply.status_code == 201


def test_an_acceptance_of_an_approved_stale_price_keeps_the_version_that_counted(stale_but_approved: Around) -> None:
    assert stale_but_approved.accepted.active_price_book_version_seen == NEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """The answers to an acceptance, and to two more of the same quote after a publication."""

    first: httpx.Response
    same_key: httpx.Response
    other_key: httpx.Response


@pytest.fixture(scope="module")
def repeats(new_offers: NewOffers, api_of: ApiOf) -> Repeats:
    offers = new_offers()
    api, offer = api_of(offers), approved(offers, StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH)
    first = accept(api.customer, offer, key="first")
    publish(offers, [FIBRE])

    same_key, other_key = accept(api.customer, offer, key="first"), accept(api.customer, offer)

    return Repeats(first=first, same_key=same_key, other_key=other_key)


def test_a_repeat_after_a_publication_gets_the_stored_answer(repeats: Repeats) -> None:
    assert (repeats.same_key.json(), repeats.same_key.headers["Idempotent-Replayed"]) == (repeats.first.json(), "true")


def test_an_acceptance_after_a_publication_is_told_the_order_that_there_is(repeats: Repeats) -> None:
    assert repeats.other_key.json()["orderId"] == repeats.first.json()["orderId"]
