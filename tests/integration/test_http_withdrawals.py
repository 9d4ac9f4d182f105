"""Recalling, cancelling and declining quotes over HTTP, and renewing expired ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, func, update

from domain.offers.quotes import Quote
from domain.store import table_of
from tests.support.http import Api, accept, edit, is_problem, withdraw
from tests.support.offers import Offers


def let_pass(db: Engine) -> None:
    """Put the end of every offer into the past."""
    quote = table_of(Quote)
    with db.begin() as connection:
        connection.execute(update(quote).values(valid_until=func.clock_timestamp()))


class TestRecalls:
    def test_a_recalled_offer_goes_on_as_the_next_revision(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()

        answer = withdraw(api.sales, offer, "recalls", reason="WRONG_PRICE")

        quote = answer.json()
        assert (answer.status_code, quote["status"], quote["revisionNo"], quote["reasonCode"]) == (201, "DRAFT", 2, "WRONG_PRICE")
        assert answer.headers["ETag"] == f'"{offer.version + 1}"'
        [request] = api.sales.get(f"/quotes/{offer.quote_id}/approvals").json()["items"]
        assert (request["status"], request["requirements"][0]["status"]) == ("RECALLED", "INVALIDATED")

    def test_only_a_quote_in_approval_is_recalled(self, api: Api, offers: Offers) -> None:
        is_problem(withdraw(api.sales, offers.approved_quote(), "recalls"), 409, "INVALID_TRANSITION")

    def test_a_repeated_recall_gets_the_first_answer(self, api: Api, offers: Offers) -> None:
        offer = offers.quote_in_approval()
        first = withdraw(api.sales, offer, "recalls", key="recall-1")

        repeated = withdraw(api.sales, offer, "recalls", key="recall-1")

        assert (repeated.status_code, repeated.json(), repeated.headers["Idempotent-Replayed"]) == (201, first.json(), "true")


class TestCancellations:
    def test_a_cancelled_offer_is_not_accepted_any_more(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()

        cancelled = withdraw(api.sales, offer, "cancellations")

        assert (cancelled.status_code, cancelled.json()["status"]) == (201, "CANCELLED")
        problem = is_problem(accept(api.customer, offer, version=cancelled.json()["version"]), 409, "INVALID_TRANSITION")
        assert problem["detail"] == "A quote that is CANCELLED does not allow this."

    def test_an_acceptance_that_has_not_seen_the_cancellation_is_a_version_conflict(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()
        withdraw(api.sales, offer, "cancellations")

        is_problem(accept(api.customer, offer), 409, "QUOTE_VERSION_CONFLICT")

    def test_cancelling_a_cancelled_quote_changes_nothing(self, api: Api, offers: Offers) -> None:
        first = withdraw(api.sales, offer := offers.draft_quote(), "cancellations").json()

        again = withdraw(api.sales, offer, "cancellations", version=first["version"])

        assert (again.status_code, again.json()) == (201, first)


@pytest.mark.parametrize("how", ["recalls", "cancellations", "declines"])
class TestPreconditions:
    def test_a_withdrawal_without_a_version_is_428(self, api: Api, offers: Offers, how: str) -> None:
        caller = api.customer if how == "declines" else api.sales

        is_problem(withdraw(caller, offers.quote_in_approval(), how, version=None), 428, "PRECONDITION_REQUIRED")

    def test_a_stale_version_is_409(self, api: Api, offers: Offers, how: str) -> None:
        caller, offer = api.customer if how == "declines" else api.sales, offers.quote_in_approval()

        is_problem(withdraw(caller, offer, how, version=offer.version - 1), 409, "QUOTE_VERSION_CONFLICT")

    def test_a_stale_revision_is_409(self, api: Api, offers: Offers, how: str) -> None:
        caller, offer = api.customer if how == "declines" else api.sales, offers.quote_in_approval()
        body = {"revisionId": str(uuid4()), "reasonCode": "NO_NEED"}

        is_problem(caller.post(f"/quotes/{offer.quote_id}/{how}", body, version=offer.version), 409, "STALE_REVISION")


class TestTheEndOfAnOffer:
    @pytest.mark.parametrize("how", ["acceptances", "declines"])
    def test_an_offer_whose_end_has_passed_is_neither_accepted_nor_declined(
        self, api: Api, offers: Offers, db: Engine, how: str
    ) -> None:
        offer = offers.approved_quote()
        let_pass(db)

        late = accept(api.customer, offer) if how == "acceptances" else withdraw(api.customer, offer, how)

        assert is_problem(late, 409, "QUOTE_EXPIRED")["safeUserAction"] == "RENEW_QUOTE"

    def test_an_edit_with_a_new_end_renews_it(self, api: Api, offers: Offers, db: Engine) -> None:
        offer = offers.approved_quote()
        let_pass(db)
        ends = (datetime.now(UTC) + timedelta(days=30)).isoformat()

        renewed = api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, validUntil=ends), version=offer.version)

        assert (renewed.status_code, renewed.json()["status"], renewed.json()["revisionNo"]) == (200, "DRAFT", 2)
