"""Two pricing managers publish a price book at once: one version counts, and whoever decided on the older one is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, Row, select

from domain.catalog import FIBRE
from domain.offers.price_books import PriceBookHead
from domain.store import table_of
from tests.support.http import is_problem
from tests.support.offers import PRICE_BOOK, PRICE_BOOK_VERSION
from tests.support.races import ApiOf, NewOffers, race_for_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What came of two publications that were both decided on the same active version, at once."""

    replies: Sequence[httpx.Response]
    active: str


def head(db: Engine) -> Row[Any]:
    with db.connect() as connection:
        return connection.execute(select(table_of(PriceBookHead))).one()


@pytest.fixture(scope="module")
def two_publications(new_offers: NewOffers, api_of: ApiOf) -> Published:
    offers = new_offers()
    api = api_of(offers)
    entries = [{"productOfferingId": FIBRE, "listPrice": "85.00", "unitCost": "40.00"}]
    seen = {"expectedActiveVersion": PRICE_BOOK_VERSION, "entries": entries}

    def publication(version: str) -> httpx.Response:
        return api.pricer.post(f"/price-books/{PRICE_BOOK}/publications", {**seen, "priceBookVersion": version})

    rivals = (lambda: publication("p-45a"), lambda: publication("p-45b"))
    replies = [future.result() for future in race_for_row(offers.engine, table_of(PriceBookHead), head(offers.engine).id, *rivals)]

    return Published(replies=replies, active=head(offers.engine).active_version)


def test_of_two_publications_on_the_same_version_the_first_is_made(two_publications: Published) -> None:
    assert two_publications.replies[0].status_code == 201


def test_of_two_publications_on_the_same_version_the_second_is_told(two_publications: Published) -> None:
    """Kills: dropping the guard of `price_book_head.publish`."""
    is_problem(two_publications.replies[1], 409, "PRICE_BOOK_CONFLICT")


def test_of_two_publications_on_the_same_version_the_first_counts(two_publications: Published) -> None:
    """Kills: dropping the guard of `price_book_head.publish`."""
    assert two_publications.active == "p-45a"
