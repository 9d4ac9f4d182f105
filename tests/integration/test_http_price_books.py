"""Publishing prices over HTTP, and the effect on quotes that were priced before."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, select

from domain.catalog import FIBRE, ROUTER, SUPPORT
from domain.store import table_of
from domain.store.facts import TransitionLog
from tests.support.http import PRICER, Api, accept, is_problem, named, new_quote
from tests.support.offers import PRICE_BOOK, PRICE_BOOK_VERSION, Offers

PATH = f"/price-books/{PRICE_BOOK}"


def publication(**changes: Any) -> dict[str, Any]:
    entries = [{"productOfferingId": name, "listPrice": "90.00", "unitCost": 41.5} for name in (FIBRE, ROUTER, SUPPORT)]
    return {"expectedActiveVersion": PRICE_BOOK_VERSION, "priceBookVersion": "p-45", "entries": entries, **changes}


def test_a_publication_becomes_the_active_version(api: Api, offers: Offers, db: Engine) -> None:
    answer = api.pricer.post(f"{PATH}/publications", publication(materialOfferingIds=[FIBRE]))

    book = answer.json()
    assert (answer.status_code, answer.headers["Location"], answer.headers["ETag"]) == (201, PATH, '"2"')
    assert (book["activeVersion"], book["version"], book["materialOfferingIds"]) == ("p-45", 2, [FIBRE])
    assert {"productOfferingId": FIBRE, "listPrice": "90.00", "unitCost": "41.50"} in book["entries"]
    assert api.pricer.get(PATH).json() == book
    log = table_of(TransitionLog)
    with db.connect() as connection:
        actors = connection.scalars(
            select(log.c.actor).where(log.c.aggregate_type == "price_book_head", log.c.aggregate_version == 2)
        )
        assert list(actors) == [PRICER]


def test_a_first_publication_opens_a_price_book_under_any_name(api: Api, offers: Offers) -> None:
    answer = api.pricer.post("/price-books/Mitra%20%C3%9F/publications", publication(expectedActiveVersion=None))

    assert (answer.status_code, answer.json()["priceBook"], answer.json()["version"]) == (201, "Mitra ß", 1)
    assert api.pricer.get(answer.headers["Location"]).json() == answer.json()


def test_of_two_publications_on_the_same_version_one_is_refused(api: Api, offers: Offers) -> None:
    api.pricer.post(f"{PATH}/publications", publication())

    late = api.pricer.post(f"{PATH}/publications", publication(priceBookVersion="p-46"))

    assert is_problem(late, 409, "PRICE_BOOK_CONFLICT")["safeUserAction"] == "RELOAD_AND_REAPPLY"


def test_a_version_is_published_once(api: Api, offers: Offers) -> None:
    again = api.pricer.post(f"{PATH}/publications", publication(priceBookVersion=PRICE_BOOK_VERSION))

    is_problem(again, 409, "PRICE_BOOK_VERSION_EXISTS")


def test_a_price_book_that_does_not_exist_is_404(api: Api, offers: Offers) -> None:
    is_problem(api.pricer.get("/price-books/NONE"), 404, "NOT_FOUND")
    is_problem(api.pricer.post("/price-books/NONE/publications", publication()), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "changes",
    [
        {"entries": []},
        {"materialOfferingIds": ["NOT_IN_THE_BOOK"]},
        {"entries": [{"productOfferingId": FIBRE, "listPrice": "-1", "unitCost": "1"}]},
        {"entries": [{"productOfferingId": FIBRE, "listPrice": "1.001", "unitCost": "1"}]},
        {"entries": [{"productOfferingId": FIBRE, "listPrice": True, "unitCost": "1"}]},
        {"entries": [{"productOfferingId": FIBRE, "listPrice": "1", "unitCost": "1"}] * 2},
        {"priceBookVersion": ""},
    ],
)
def test_an_invalid_publication_is_422(api: Api, offers: Offers, changes: dict[str, Any]) -> None:
    assert api.pricer.post(f"{PATH}/publications", publication(**changes)).status_code == 422
    assert api.pricer.get(PATH).json()["activeVersion"] == PRICE_BOOK_VERSION


def test_a_quote_that_must_be_priced_anew_is_refused_after_a_publication(api: Api, offers: Offers) -> None:
    offer = offers.approved_quote(policy="REPRICE_REQUIRED_ON_PUBLISH")
    api.pricer.post(f"{PATH}/publications", publication())

    is_problem(accept(api.customer, offer), 409, "STALE_PRICE")


def test_a_price_beyond_the_largest_amount_is_refused(api: Api, offers: Offers) -> None:
    dear = [{"productOfferingId": name, "listPrice": 10**9, "unitCost": "1"} for name in (FIBRE, ROUTER)]
    api.pricer.post(f"{PATH}/publications", publication(entries=dear))
    lines = [{"productOfferingId": name, "quantity": 50, "termMonths": 120} for name in (FIBRE, ROUTER)]
    quote = api.sales.post("/quotes", new_quote(lines=lines)).json()

    priced = api.sales.post(f"/quotes/{quote['quoteId']}/price", named(quote, "configResultId", "catalogVersion"), version=1)

    is_problem(priced, 422, "PRICE_TOO_LARGE")
