"""A revision is superseded while its approval is on the way. What was approved of the old one is worth nothing for the new one.

The approver's task in the engine: `tests/races/test_superseded_tasks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, select

from domain.accepting import ACCEPT
from domain.delivery.orders import SalesOrder
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, Decision, RequestStatus
from domain.offers.deciding import DECIDE, QUOTE_OUTCOME
from domain.offers.quotes import Quote, QuoteStatus
from domain.store import table_of
from tests.support.as_read import Offer
from tests.support.database import count, in_order
from tests.support.guards import without
from tests.support.http import Api, acceptance, decide, edit, is_problem
from tests.support.offers import Offers
from tests.support.races import ApiOf, NewOffers, race_for_row

NOTHING = UUID(int=0)
REJECTIONS = "q2o_stale_approval_rejections_total"


def edited(api: Api, offer: Offer) -> httpx.Response:
    return api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=24), version=offer.version)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """What came of an edit of a quote in approval, and of the last signature that its approval needed."""

    edit: httpx.Response
    signature: httpx.Response
    decisions: int
    quote: str  # its status
    requests: Sequence[str]  # their status
    counted: float  # signatures that were refused as stale, by the metric


def signed(offers: Offers, api: Api, act: Callable[[Offer, UUID], tuple[httpx.Response, httpx.Response]]) -> Signed:
    """Bring a quote to its approver, and let `act` edit and sign it."""
    asked = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(asked)
    before = api.metric(REJECTIONS, command="decide-approval")

    edit_reply, signature = act(asked, requirement_id)

    return Signed(
        edit=edit_reply,
        signature=signature,
        decisions=count(offers.engine, ApprovalDecision),
        quote=offers.quote(asked.quote_id).status,
        requests=statuses(offers.engine, ApprovalRequest),
        counted=api.metric(REJECTIONS, command="decide-approval") - before,
    )


def statuses(db: Engine, entity: Any) -> list[str]:
    table = table_of(entity)
    with db.connect() as connection:
        return list(connection.scalars(in_order(select(table.c.status), table)))


@pytest.fixture(scope="module")
def signed_on_an_old_form(new_offers: NewOffers, api_of: ApiOf) -> Signed:
    offers = new_offers()
    api = api_of(offers)

    return signed(offers, api, lambda asked, requirement: (edited(api, asked), decide(api.approver, asked, requirement)))


def test_an_approver_who_decides_on_a_form_of_the_old_revision_is_told_that_it_is_stale(signed_on_an_old_form: Signed) -> None:
    """Kills: dropping the guard that binds a decision to its revision (its twins are the tests without that guard)."""
    is_problem(signed_on_an_old_form.signature, 409, "STALE_APPROVAL")


def test_an_approver_of_an_old_revision_is_told_to_wait_for_a_new_request(signed_on_an_old_form: Signed) -> None:
    assert signed_on_an_old_form.signature.json()["safeUserAction"] == "REQUEST_APPROVAL"


def test_a_decision_on_an_old_revision_is_not_recorded(signed_on_an_old_form: Signed) -> None:
    assert signed_on_an_old_form.decisions == 0


def test_a_quote_that_is_edited_in_its_approval_is_a_draft(signed_on_an_old_form: Signed) -> None:
    assert (signed_on_an_old_form.edit.status_code, signed_on_an_old_form.quote) == (200, QuoteStatus.DRAFT)


def test_an_edit_makes_the_approval_request_of_the_old_revision_invalid(signed_on_an_old_form: Signed) -> None:
    assert signed_on_an_old_form.requests == [RequestStatus.INVALIDATED]


def test_a_decision_on_an_old_revision_is_counted(signed_on_an_old_form: Signed) -> None:
    assert signed_on_an_old_form.counted == 1


@pytest.fixture(scope="module")
def signed_unguarded(new_offers: NewOffers, api_of: ApiOf) -> Signed:
    offers = new_offers()
    api = api_of(offers)

    def act(asked: Offer, requirement_id: UUID) -> tuple[httpx.Response, httpx.Response]:
        edit_reply = edited(api, asked)
        with without(DECIDE[Decision.APPROVE], 1, 2), without(QUOTE_OUTCOME[Decision.APPROVE], 0):
            return edit_reply, decide(api.approver, asked, requirement_id, expectedRequirementVersion=2)

    return signed(offers, api, act)


def test_without_that_guard_the_state_of_the_requirement_still_refuses_the_decision(signed_unguarded: Signed) -> None:
    is_problem(signed_unguarded.signature, 409, "INVALID_TRANSITION")


def test_without_that_guard_a_decision_on_an_old_revision_is_still_not_recorded(signed_unguarded: Signed) -> None:
    assert signed_unguarded.decisions == 0


@pytest.fixture(scope="module")
def edited_first(new_offers: NewOffers, api_of: ApiOf) -> Signed:
    """The edit and the last signature queue at the quote, and the edit is the first."""
    offers = new_offers()
    api = api_of(offers)

    def act(asked: Offer, requirement_id: UUID) -> tuple[httpx.Response, httpx.Response]:
        rivals = (lambda: edited(api, asked), lambda: decide(api.approver, asked, requirement_id))
        edit_reply, signature = race_for_row(offers.engine, table_of(Quote), asked.quote_id, *rivals)
        return edit_reply.result(), signature.result()

    return signed(offers, api, act)


def test_an_edit_that_comes_before_the_last_signature_makes_a_draft(edited_first: Signed) -> None:
    assert (edited_first.edit.status_code, edited_first.quote) == (200, QuoteStatus.DRAFT)


def test_the_last_signature_is_stale_when_an_edit_comes_first(edited_first: Signed) -> None:
    is_problem(edited_first.signature, 409, "STALE_APPROVAL")


def test_the_last_signature_is_not_recorded_when_an_edit_comes_first(edited_first: Signed) -> None:
    assert edited_first.decisions == 0


@pytest.fixture(scope="module")
def signed_first(new_offers: NewOffers, api_of: ApiOf) -> Signed:
    """The last signature and the edit both wait for the quote; the signature is first in the queue."""
    offers = new_offers()
    api = api_of(offers)

    def act(asked: Offer, requirement_id: UUID) -> tuple[httpx.Response, httpx.Response]:
        rivals = (lambda: decide(api.approver, asked, requirement_id), lambda: edited(api, asked))
        signature, edit_reply = race_for_row(offers.engine, table_of(Quote), asked.quote_id, *rivals)
        return edit_reply.result(), signature.result()

    return signed(offers, api, act)


def test_the_last_signature_approves_the_quote_when_it_comes_before_an_edit(signed_first: Signed) -> None:
    assert (signed_first.signature.status_code, signed_first.quote) == (201, QuoteStatus.APPROVED)


def test_an_edit_is_refused_when_the_last_signature_comes_first(signed_first: Signed) -> None:
    is_problem(signed_first.edit, 409, "QUOTE_VERSION_CONFLICT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What came of an acceptance of a quote whose approval is of its last revision."""

    code: str  # with which it should be refused
    reply: httpx.Response
    orders: int
    counted: float  # approvals that were refused as stale, by the metric


def of_the_old_revision(old: Offer, _new: Offer) -> dict[str, Any]:
    return acceptance(old)


def with_the_old_approval(old: Offer, new: Offer) -> dict[str, Any]:
    return {**acceptance(new), "approvalRequestId": str(old.approval_request_id)}


def without_an_approval(_old: Offer, new: Offer) -> dict[str, Any]:
    return {**acceptance(new), "approvalRequestId": str(NOTHING)}


REFUSED = {of_the_old_revision: "STALE_APPROVAL", with_the_old_approval: "STALE_APPROVAL", without_an_approval: "APPROVAL_MISSING"}


def in_two_revisions(offers: Offers, api: Api) -> tuple[Offer, Offer]:
    """Make an approved quote, and edit it: of its next revision only the approval is missing. Returns both."""
    old = offers.approved_quote()
    edited(api, old).raise_for_status()
    return old, offers.issue_document(offers.price(offers.quote(old.quote_id)))


def accepted(offers: Offers, api: Api, new: Offer, body: dict[str, Any], code: str) -> Accepted:
    before = api.metric(REJECTIONS, command="accept-quote")

    reply = api.customer.post(f"/quotes/{new.quote_id}/acceptances", body, version=new.version)

    counted = api.metric(REJECTIONS, command="accept-quote") - before
    return Accepted(code=code, reply=reply, orders=count(offers.engine, SalesOrder), counted=counted)


@pytest.fixture(scope="module", params=REFUSED, ids=lambda body: body.__name__)
def unapproved(request: pytest.FixtureRequest, new_offers: NewOffers, api_of: ApiOf) -> Accepted:
    offers = new_offers()
    api = api_of(offers)
    old, new = in_two_revisions(offers, api)

    return accepted(offers, api, new, request.param(old, new), REFUSED[request.param])


def test_an_approval_of_one_revision_never_authorises_the_next(unapproved: Accepted) -> None:
    """Kills: dropping the guards that bind the acceptance to its approval (the twins are the tests without those guards)."""
    is_problem(unapproved.reply, 409, unapproved.code)


def test_no_order_comes_of_a_revision_that_nobody_approved(unapproved: Accepted) -> None:
    assert unapproved.orders == 0


def test_an_acceptance_without_an_approval_of_its_revision_is_counted(unapproved: Accepted) -> None:
    """A missing approval is counted with the stale ones."""
    assert unapproved.counted == 1


@pytest.fixture(scope="module")
def unguarded(new_offers: NewOffers, api_of: ApiOf) -> Accepted:
    offers = new_offers()
    api = api_of(offers)
    old, new = in_two_revisions(offers, api)

    with without(ACCEPT, 1, 2):
        return accepted(offers, api, new, with_the_old_approval(old, new), "INVALID_TRANSITION")


def test_without_those_guards_only_the_state_of_the_quote_keeps_the_old_approval_out(unguarded: Accepted) -> None:
    is_problem(unguarded.reply, 409, unguarded.code)


def test_without_those_guards_still_no_order_comes_of_the_old_approval(unguarded: Accepted) -> None:
    assert unguarded.orders == 0
