"""Lists of quotes and orders over HTTP: filtered, sorted and counted from projections, which may be behind and say so."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, update

from domain.projections.tables import TABLES, Projection
from tests.support.database import acting
from tests.support.http import Api, Caller, is_problem
from tests.support.offers import CUSTOMER, Offers
from tests.support.projected import show_all
from tests.support.statements import before_statement
from workers.http.auth import Role

QUOTES, ORDERS = TABLES[Projection.QUOTES], TABLES[Projection.ORDERS]
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
AFTER_THE_ITEMS = 3  # the number of the statement; the first one begins the transaction
NO_TIMES = ("0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00")


def found(caller: Caller, path: str, **query: Any) -> list[str]:
    """The numbers that a list has, in its order."""
    answer = caller.get(path, **query)
    assert answer.status_code == 200, answer.text
    return [item.get("orderNumber") or item["quoteNumber"] for item in answer.json()["items"]]


def place_at(value: str, column: str = "created_at") -> str:
    """The place of a page that ends with a quote that has this value in the column of the order, by default the time at which it was made."""
    return urlsafe_b64encode(json.dumps([column, value, str(UUID(int=1))]).encode()).decode()


@pytest.fixture
def quotes(db: Engine, offers: Offers) -> list[str]:
    """Four quotes, made one day after the other, of which every second one belongs to another customer; the last one is priced."""
    for number in range(4):
        make = offers.priced_quote if number == 3 else offers.draft_quote
        make(customer_id=CUSTOMER if number % 2 else "customer-2")
    show_all(db)
    numbers = [f"Q-{number}" for number in range(1, 5)]
    with db.begin() as connection:
        for day, name in enumerate(numbers):
            moment = FIRST + day * DAY
            dates = {"created_at": moment, "updated_at": FIRST - day * DAY, "valid_until": moment + 10 * DAY}
            connection.execute(update(QUOTES).where(QUOTES.c.quote_number == name).values(**dates))
    return numbers


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ({}, [3, 2, 1, 0]),
        ({"sort": "createdAt"}, [0, 1, 2, 3]),
        ({"sort": "-updatedAt"}, [0, 1, 2, 3]),
        ({"sort": "updatedAt"}, [3, 2, 1, 0]),
        ({"sort": "validUntil"}, [0, 1, 2, 3]),
        ({"sort": "-validUntil"}, [3, 2, 1, 0]),
        ({"quoteNumber": "Q-2"}, [1]),
        ({"customerId": "customer-2"}, [2, 0]),
        ({"status": "PRICED"}, [3]),
        ({"status": "PRICED", "customerId": "customer-2"}, []),
        ({"createdFrom": (FIRST + DAY).isoformat()}, [3, 2, 1]),
        ({"createdBefore": (FIRST + DAY).isoformat()}, [0]),
        ({"validFrom": (FIRST + 11 * DAY).isoformat(), "validBefore": (FIRST + 13 * DAY).isoformat()}, [2, 1]),
    ],
    ids=str,
)
def test_quotes_are_found_sorted_and_counted(api: Api, quotes: list[str], query: dict[str, str], places: list[int]) -> None:
    assert found(api.sales, "/quotes", **query) == [quotes[place] for place in places]
    assert api.sales.get("/quotes", **query).json()["total"] == len(places)


@pytest.mark.parametrize("sort", ["-createdAt", "createdAt", "-updatedAt", "updatedAt", "validUntil", "-validUntil", "customerId"])
def test_pages_follow_each_other_without_gap_or_repeat_in_every_order(api: Api, quotes: list[str], sort: str) -> None:
    seen: list[str] = []
    after: dict[str, Any] = {}

    while True:
        page = api.sales.get("/quotes", limit=1, sort=sort, **after).json()
        seen += [item["quoteNumber"] for item in page["items"]]
        assert page["total"] == len(quotes)
        if page["next"] is None:
            break
        after = {"after": page["next"]}

    assert seen == found(api.sales, "/quotes", sort=sort)
    assert sorted(seen) == quotes


def test_a_row_that_changes_between_two_pages_repeats_no_other(db: Engine, api: Api, quotes: list[str]) -> None:
    first = api.sales.get("/quotes", limit=2, sort="-updatedAt").json()
    with db.begin() as connection:
        connection.execute(update(QUOTES).where(QUOTES.c.quote_number == quotes[1]).values(updated_at=FIRST + DAY))

    second = api.sales.get("/quotes", limit=2, sort="-updatedAt", after=first["next"]).json()

    assert [item["quoteNumber"] for item in second["items"]] == quotes[2:]


@pytest.mark.parametrize("after", ["x", "bnVsbA==", "WzEsMiwzXQ==", *map(place_at, NO_TIMES)])
def test_a_place_that_no_page_gave_is_422(api: Api, after: str) -> None:
    is_problem(api.sales.get("/quotes", after=after), 422, "REQUEST_INVALID")


@pytest.mark.parametrize("customer", ["\ud83d", "\0", "C-1\udc00"])
@pytest.mark.parametrize("path", ["/quotes", "/orders"])
def test_a_place_with_a_text_that_cannot_be_stored_is_422(api: Api, path: str, customer: str) -> None:
    is_problem(api.sales.get(path, sort="customerId", after=place_at(customer, "customer_id")), 422, "REQUEST_INVALID")


def test_a_place_in_another_order_is_422(api: Api, quotes: list[str]) -> None:
    after = api.sales.get("/quotes", limit=1, sort="createdAt").json()["next"]

    is_problem(api.sales.get("/quotes", after=after, sort="validUntil"), 422, "REQUEST_INVALID")


@pytest.mark.parametrize("query", [{"sort": "price"}, {"customer": "x"}, {"createdFrom": "yesterday"}, {"status": "CREATED"}])
def test_a_filter_that_is_misspelt_is_422_instead_of_every_quote(api: Api, query: dict[str, str]) -> None:
    is_problem(api.sales.get("/quotes", **query), 422, "REQUEST_INVALID")


def test_a_list_that_is_behind_says_which_version_and_time_it_shows(db: Engine, api: Api, offers: Offers) -> None:
    offer = offers.draft_quote()
    show_all(db)
    before = api.sales.get("/quotes").json()

    offers.price(offer)

    behind, truth = api.sales.get("/quotes").json(), api.sales.get(f"/quotes/{offer.quote_id}").json()
    assert behind == before
    assert [(item["version"], item["status"]) for item in behind["items"]] == [(1, "DRAFT")]
    assert (truth["version"], truth["status"]) == (2, "PRICED")
    assert datetime.fromisoformat(behind["asOf"]) < datetime.fromisoformat(truth["updatedAt"])
    show_all(db)
    assert api.sales.get("/quotes").json()["asOf"] == truth["updatedAt"]


def test_what_a_list_says_is_of_one_moment(db: Engine, api: Api, offers: Offers) -> None:
    """Kills: a list whose items are older than its total and its time, because a change came in between."""
    offers.draft_quote()
    show_all(db)
    before = api.sales.get("/quotes").json()

    def change() -> None:
        offers.draft_quote()
        show_all(db)

    with before_statement(AFTER_THE_ITEMS, acting(db, "http"), change):
        meanwhile = api.sales.get("/quotes").json()

    assert (meanwhile, api.sales.get("/quotes").json()["total"]) == (before, 2)


def test_a_list_that_has_seen_nothing_has_no_time(api: Api) -> None:
    assert api.sales.get("/orders").json() == {"items": [], "next": None, "total": 0, "asOf": None}


def test_an_item_shows_its_total_and_the_signatures_of_its_current_revision(db: Engine, api: Api, offers: Offers) -> None:
    offer = offers.approved_quote()
    show_all(db)

    [item] = api.sales.get("/quotes").json()["items"]

    truth = api.sales.get(f"/quotes/{offer.quote_id}").json()
    assert item["approvalCount"] == 1
    assert item["netTotal"] == truth["netTotal"] == truth["price"]["netTotal"]
    assert {name: truth[name] for name in item if name in truth} == {name: item[name] for name in item if name in truth}


def test_orders_are_found_by_number_quote_customer_status_and_dates(db: Engine, api: Api, offers: Offers) -> None:
    waiting, running = offers.accepted_quote(), offers.running_order()
    show_all(db)
    with db.begin() as connection:
        connection.execute(update(ORDERS).where(ORDERS.c.order_number == "O-2").values(requested_completion=FIRST))

    assert found(api.sales, "/orders") == ["O-2", "O-1"]
    assert found(api.sales, "/orders", orderNumber="O-1") == ["O-1"]
    assert found(api.sales, "/orders", quoteId=str(waiting.quote_id)) == ["O-1"]
    assert found(api.sales, "/orders", customerId=CUSTOMER, status="IN_PROGRESS") == ["O-2"]
    assert found(api.sales, "/orders", completionFrom=FIRST.isoformat()) == ["O-2"]
    assert found(api.sales, "/orders", completionBefore=FIRST.isoformat()) == []
    [order] = api.sales.get("/orders", orderNumber="O-2").json()["items"]
    truth = api.sales.get(f"/orders/{running.order_id}").json()
    assert order == {**{name: truth[name] for name in order}, "requestedCompletion": FIRST.isoformat()}


def test_a_buyer_counts_only_what_belongs_to_their_customers(api: Api, quotes: list[str]) -> None:
    answer = api.caller("carla", Role.CUSTOMER, customers=["customer-2"]).get("/quotes").json()

    assert ([item["quoteNumber"] for item in answer["items"]], answer["total"]) == (["Q-3", "Q-1"], 2)
    assert api.customer.get("/quotes", customerId="customer-2").json()["total"] == 0


def test_a_buyer_does_not_learn_when_another_customer_s_quote_changed(api: Api, quotes: list[str]) -> None:
    as_of = [datetime.fromisoformat(caller.get("/quotes").json()["asOf"]) for caller in (api.sales, api.customer)]

    assert as_of == [FIRST, FIRST - DAY]
