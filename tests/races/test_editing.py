"""T1: two users edit one quote. Whoever is second at the row is told, also when the quote looks as it did before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import Engine, select

from domain.offers.quotes import Quote
from domain.offers.quoting import EDIT
from domain.store import table_of
from domain.store.facts import ConflictLog, OutboxEvent, TransitionLog
from tests.support.guards import without
from tests.support.http import Api, Caller, edit, is_problem, named, opened, priced
from tests.support.races import race_for_row
from workers.http.auth import Role

Response = httpx.Response
VERSION = 0  # position of the version guard of `quote.edit`


def race(db: Engine, quote: dict[str, Any], *callers: Callable[[], Response]) -> list[Response]:
    return [future.result() for future in race_for_row(db, table_of(Quote), UUID(quote["quoteId"]), *callers)]


def longer_term(caller: Caller, quote: dict[str, Any]) -> Callable[[], Response]:
    """Term 12 -> 24, decided on the quote as it was read."""
    return lambda: caller.patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=24), version=quote["version"])


def more_discount(caller: Caller, quote: dict[str, Any]) -> Callable[[], Response]:
    """Discount of the first line 20 % -> 30 %, decided on the quote as it was read."""
    body = edit(quote, lines=[{"lineNo": 1, "discountPercent": 30}])
    return lambda: caller.patch(f"/quotes/{quote['quoteId']}", body, version=quote["version"])


def bob(api: Api) -> Caller:
    return api.caller("bob", Role.SALES_AGENT)


def lines(api: Api, quote: dict[str, Any]) -> list[tuple[int, str]]:
    shown = api.sales.get(f"/quotes/{quote['quoteId']}").json()["lines"]
    return [(line["termMonths"], line["discountPercent"]) for line in shown]


def logged(db: Engine, quote: dict[str, Any], entity: Any, column: str) -> list[Any]:
    table = table_of(entity)
    query = select(table.c[column]).where(table.c.aggregate_id == UUID(quote["quoteId"])).order_by(table.c.created_at)
    with db.connect() as connection:
        return list(connection.scalars(query))


def test_of_two_users_who_edit_the_same_version_one_wins_and_the_other_is_told(api: Api, db: Engine) -> None:
    """Kills: dropping the version guard of `quote.edit` (its twin is the next test)."""
    quote = opened(api)
    labels = {"aggregate_type": "quote", "command": "edit-quote"}
    conflicts = api.metric("q2o_optimistic_lock_conflicts_total", **labels)

    first, second = race(db, quote, longer_term(api.sales, quote), more_discount(bob(api), quote))

    assert (first.status_code, first.headers["ETag"]) == (200, '"2"')
    told = is_problem(second, 409, "QUOTE_VERSION_CONFLICT")
    assert (told["expectedVersion"], told["currentVersion"], told["safeUserAction"]) == (1, 2, "RELOAD_AND_REAPPLY")
    assert lines(api, quote) == [(24, "20.00"), (24, "20.00")]
    assert logged(db, quote, TransitionLog, "reason") == ["CREATE", "EDIT"]
    assert logged(db, quote, OutboxEvent, "event_type") == ["QuoteCreated", "QuoteRevised"]
    assert logged(db, quote, ConflictLog, "conflict_code") == ["QUOTE_VERSION_CONFLICT"]
    assert api.metric("q2o_optimistic_lock_conflicts_total", **labels) == conflicts + 1


def test_without_the_version_guard_the_second_edit_is_taken_unseen(api: Api, db: Engine) -> None:
    quote = opened(api)

    with without(EDIT, VERSION):
        first, second = race(db, quote, longer_term(api.sales, quote), more_discount(bob(api), quote))

    assert [first.status_code, second.status_code] == [200, 200]
    assert lines(api, quote)[0] == (24, "30.00")


def there_and_back(api: Api, quote: dict[str, Any]) -> dict[str, Any]:
    """Bob prices the draft and edits it back to a draft of the same revision; returns it."""
    at_price = priced(bob(api), quote)
    back = bob(api).patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=36), version=at_price["version"])
    assert back.status_code == 200, back.text
    draft: dict[str, Any] = back.json()
    assert (draft["status"], draft["revisionId"]) == (quote["status"], quote["revisionId"])
    return draft


def test_a_quote_that_was_priced_and_edited_back_to_draft_is_not_the_draft_that_was_read(api: Api) -> None:
    """ABA. Kills: checking the status instead of the version (its twin is the next test)."""
    quote = opened(api)
    draft = there_and_back(api, quote)

    late = longer_term(api.sales, quote)()

    assert is_problem(late, 409, "QUOTE_VERSION_CONFLICT")["currentVersion"] == draft["version"] == 3
    assert lines(api, quote)[0] == (36, "20.00")


def test_checked_by_status_alone_the_edit_of_the_earlier_draft_is_taken(api: Api) -> None:
    quote = opened(api)
    there_and_back(api, quote)

    with without(EDIT, VERSION):
        late = longer_term(api.sales, quote)()

    assert late.status_code == 200
    assert lines(api, quote)[0] == (24, "20.00")


def test_an_edit_that_was_decided_before_an_approval_began_is_refused_when_it_was_voided(api: Api) -> None:
    """ABA through the next revision. Kills: dropping the version guard and the revision guard of `quote.edit` together."""
    quote = priced(api.sales, opened(api))
    path = f"/quotes/{quote['quoteId']}"
    submission = named(quote, "revisionId", "configResultId", "priceResultId")
    submitted = api.sales.post(f"{path}/submissions", submission, version=quote["version"]).json()
    assert submitted["status"] == "SUBMITTED_FOR_APPROVAL"
    back = bob(api).patch(path, edit(submitted, termMonths=36), version=submitted["version"])
    assert (back.status_code, back.json()["status"]) == (200, "DRAFT"), back.text

    late = longer_term(api.sales, quote)()

    assert is_problem(late, 409, "QUOTE_VERSION_CONFLICT")["currentVersion"] == back.json()["version"]
    assert lines(api, quote)[0] == (36, "20.00")
