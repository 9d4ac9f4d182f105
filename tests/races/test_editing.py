"""Two users edit one quote. Whoever is second at the row is told, also when the quote looks as it did before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, select

from domain.offers.quotes import Quote
from domain.offers.quoting import EDIT
from domain.store import table_of
from domain.store.facts import ConflictLog, OutboxEvent, TransitionLog
from tests.support.guards import without
from tests.support.http import Api, Caller, edit, is_problem, named, opened, priced
from tests.support.races import ApiOf, NewOffers, race_for_row
from workers.http.auth import Role

Response = httpx.Response
VERSION = 0  # position of the version guard of `quote.edit`
CONFLICTS, OF_EDITS = "q2o_optimistic_lock_conflicts_total", {"aggregate_type": "quote", "command": "edit-quote"}


def longer_term(caller: Caller, quote: dict[str, Any]) -> Response:
    """Term 12 -> 24, decided on the quote as it was read."""
    return caller.patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=24), version=quote["version"])


def more_discount(caller: Caller, quote: dict[str, Any]) -> Response:
    """Discount of the first line 20 % -> 30 %, decided on the quote as it was read."""
    body = edit(quote, lines=[{"lineNo": 1, "discountPercent": 30}])
    return caller.patch(f"/quotes/{quote['quoteId']}", body, version=quote["version"])


def bob(api: Api) -> Caller:
    return api.caller("bob", Role.SALES_AGENT)


def lines(api: Api, quote: dict[str, Any]) -> list[tuple[int, str]]:
    shown = api.sales.get(f"/quotes/{quote['quoteId']}").json()["lines"]
    return [(line["termMonths"], line["discountPercent"]) for line in shown]


def logged(db: Engine, quote: dict[str, Any], entity: Any, column: str) -> list[str]:
    table = table_of(entity)
    query = select(table.c[column]).where(table.c.aggregate_id == UUID(quote["quoteId"])).order_by(table.c.created_at)
    with db.connect() as connection:
        return list(connection.scalars(query))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """What came of a longer term and of more discount, which two users gave the same version of one quote at once."""

    term: Response
    discount: Response
    lines: Sequence[tuple[int, str]]
    transitions: Sequence[str]
    events: Sequence[str]
    conflicts: Sequence[str]
    counted: float  # how many conflicts the metric went up by


def edited_by_two(db: Engine, api: Api, quote: dict[str, Any]) -> Edited:
    """Let the longer term be the first at the quote's row."""
    before = api.metric(CONFLICTS, **OF_EDITS)
    edits = (lambda: longer_term(api.sales, quote), lambda: more_discount(bob(api), quote))

    term, discount = (future.result() for future in race_for_row(db, table_of(Quote), UUID(quote["quoteId"]), *edits))

    return Edited(
        term=term,
        discount=discount,
        lines=lines(api, quote),
        transitions=logged(db, quote, TransitionLog, "reason"),
        events=logged(db, quote, OutboxEvent, "event_type"),
        conflicts=logged(db, quote, ConflictLog, "conflict_code"),
        counted=api.metric(CONFLICTS, **OF_EDITS) - before,
    )


@pytest.fixture(scope="module")
def two_edits(new_offers: NewOffers, api_of: ApiOf) -> Edited:
    offers = new_offers()
    api = api_of(offers)

    return edited_by_two(offers.engine, api, opened(api))


def test_of_two_users_who_edit_the_same_version_the_first_gets_the_next_version(two_edits: Edited) -> None:
    assert (two_edits.term.status_code, two_edits.term.headers["ETag"].replace("-gzip", "")) == (200, '"2"')


def test_of_two_users_who_edit_the_same_version_the_second_is_refused(two_edits: Edited) -> None:
    """Kills: dropping the version guard of `quote.edit` (its twins are the tests of two unseen edits)."""
    is_problem(two_edits.discount, 409, "QUOTE_VERSION_CONFLICT")


def test_the_second_user_is_told_both_versions_and_to_apply_the_edit_again(two_edits: Edited) -> None:
    told = named(two_edits.discount.json(), "expectedVersion", "currentVersion", "safeUserAction")

    assert told == {"expectedVersion": 1, "currentVersion": 2, "safeUserAction": "RELOAD_AND_REAPPLY"}


def test_a_quote_that_two_users_edit_has_the_edit_of_the_first_alone(two_edits: Edited) -> None:
    assert two_edits.lines == [(24, "20.00"), (24, "20.00")]


def test_a_refused_edit_is_no_transition(two_edits: Edited) -> None:
    assert two_edits.transitions == ["CREATE", "EDIT"]


def test_a_refused_edit_is_no_event(two_edits: Edited) -> None:
    assert two_edits.events == ["QuoteCreated", "QuoteRevised"]


def test_a_refused_edit_is_logged_as_a_conflict(two_edits: Edited) -> None:
    assert two_edits.conflicts == ["QUOTE_VERSION_CONFLICT"]


def test_a_refused_edit_is_counted(two_edits: Edited) -> None:
    assert two_edits.counted == 1


@pytest.fixture(scope="module")
def two_unseen_edits(new_offers: NewOffers, api_of: ApiOf) -> Edited:
    offers = new_offers()
    api = api_of(offers)
    quote = opened(api)

    with without(EDIT, VERSION):
        return edited_by_two(offers.engine, api, quote)


def test_without_the_version_guard_both_edits_are_taken(two_unseen_edits: Edited) -> None:
    assert [two_unseen_edits.term.status_code, two_unseen_edits.discount.status_code] == [200, 200]


def test_without_the_version_guard_the_second_edit_changes_what_its_user_has_not_seen(two_unseen_edits: Edited) -> None:
    assert two_unseen_edits.lines[0] == (24, "30.00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """What came of an edit that was decided on a draft, while another user brought the quote away from it and back to a draft."""

    read: dict[str, Any]
    between: dict[str, Any]
    back: dict[str, Any]
    reply: Response
    first_line: tuple[int, str]


def edited_late(api: Api, read: dict[str, Any], between: dict[str, Any], back: dict[str, Any]) -> Late:
    reply = longer_term(api.sales, read)

    return Late(read=read, between=between, back=back, reply=reply, first_line=lines(api, read)[0])


def edited_back(api: Api, quote: dict[str, Any]) -> dict[str, Any]:
    """Let Bob edit the quote, which makes a draft of it again; returns that."""
    reply = bob(api).patch(f"/quotes/{quote['quoteId']}", edit(quote, termMonths=36), version=quote["version"])
    draft: dict[str, Any] = reply.raise_for_status().json()
    return draft


def priced_and_edited_back(api: Api) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Make a draft, which Bob prices and edits back; returns the quote as it was after each of the three steps."""
    draft = opened(api)
    at_price = priced(bob(api), draft)
    return draft, at_price, edited_back(api, at_price)


@pytest.fixture(scope="module")
def after_pricing(new_offers: NewOffers, api_of: ApiOf) -> Late:
    """Bob prices the draft and edits it back to a draft of the same revision."""
    api = api_of(new_offers())
    seen = priced_and_edited_back(api)

    return edited_late(api, *seen)


def test_a_quote_that_was_priced_and_edited_back_looks_like_the_draft_that_was_read(after_pricing: Late) -> None:
    assert named(after_pricing.back, "status", "revisionId") == named(after_pricing.read, "status", "revisionId")


def test_a_quote_that_was_priced_and_edited_back_is_not_the_draft_that_was_read(after_pricing: Late) -> None:
    """Kills: checking the status instead of the version (its twins are the tests of an unseen return)."""
    is_problem(after_pricing.reply, 409, "QUOTE_VERSION_CONFLICT")


def test_an_edit_of_the_earlier_draft_is_told_the_version_of_the_later_one(after_pricing: Late) -> None:
    assert after_pricing.reply.json()["currentVersion"] == after_pricing.back["version"] == 3


def test_a_refused_edit_of_the_earlier_draft_leaves_the_later_one_as_it_is(after_pricing: Late) -> None:
    assert after_pricing.first_line == (36, "20.00")


@pytest.fixture(scope="module")
def unseen_return(new_offers: NewOffers, api_of: ApiOf) -> Late:
    api = api_of(new_offers())
    seen = priced_and_edited_back(api)

    with without(EDIT, VERSION):
        return edited_late(api, *seen)


def test_checked_by_status_alone_an_edit_of_the_earlier_draft_is_taken(unseen_return: Late) -> None:
    assert unseen_return.reply.status_code == 200


def test_checked_by_status_alone_an_edit_of_the_earlier_draft_takes_the_later_one_back(unseen_return: Late) -> None:
    assert unseen_return.first_line == (24, "20.00")


@pytest.fixture(scope="module")
def after_submission(new_offers: NewOffers, api_of: ApiOf) -> Late:
    """The priced quote is submitted, and Bob's edit voids its approval: the draft is of the next revision."""
    api = api_of(new_offers())
    quote = priced(api.sales, opened(api))
    submission = named(quote, "revisionId", "configResultId", "priceResultId")
    reply = api.sales.post(f"/quotes/{quote['quoteId']}/submissions", submission, version=quote["version"])
    submitted: dict[str, Any] = reply.raise_for_status().json()
    back = edited_back(api, submitted)

    return edited_late(api, quote, submitted, back)


def test_a_priced_quote_that_is_submitted_is_on_its_way_to_approval(after_submission: Late) -> None:
    assert after_submission.between["status"] == "SUBMITTED_FOR_APPROVAL"


def test_an_edit_of_a_submitted_quote_makes_a_draft_of_the_next_revision(after_submission: Late) -> None:
    assert (after_submission.back["status"], after_submission.back["revisionNo"]) == (
        "DRAFT",
        after_submission.read["revisionNo"] + 1,
    )


def test_an_edit_that_was_decided_before_an_approval_began_is_refused_when_it_was_voided(after_submission: Late) -> None:
    """Kills: dropping the version guard and the revision guard of `quote.edit` together."""
    is_problem(after_submission.reply, 409, "QUOTE_VERSION_CONFLICT")


def test_an_edit_that_was_decided_before_an_approval_began_is_told_the_version_of_the_draft(after_submission: Late) -> None:
    assert after_submission.reply.json()["currentVersion"] == after_submission.back["version"]


def test_an_edit_that_was_decided_before_an_approval_began_leaves_the_draft_as_it_is(after_submission: Late) -> None:
    assert after_submission.first_line == (36, "20.00")
