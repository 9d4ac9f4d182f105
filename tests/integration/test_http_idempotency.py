"""A command runs once per key: repeats, other requests under the same key, and two at the same moment."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import Engine

from domain.delivery.orders import SalesOrder
from domain.offers.quotes import Quote
from domain.store import table_of
from tests.support.database import count
from tests.support.http import (
    Api,
    accept,
    edit,
    is_problem,
    new_quote,
    opened,
)
from tests.support.offers import OWNER, Offers
from tests.support.races import race_for_row
from workers.http.auth import Role


class TestIdempotency:
    def test_a_command_without_a_key_is_400(self, api: Api) -> None:
        response = api.client.post("/quotes", json=new_quote(), headers={"Authorization": f"Bearer {api.sales.token}"})

        is_problem(response, 400, "IDEMPOTENCY_KEY_MISSING")

    @pytest.mark.parametrize("key", ["x" * 256, "no\ttabs"])
    def test_an_invalid_key_is_400(self, api: Api, key: str) -> None:
        is_problem(api.sales.post("/quotes", new_quote(), key=key), 400, "IDEMPOTENCY_KEY_INVALID")

    def test_a_repeated_command_is_answered_as_the_first_time(self, api: Api, offers: Offers, db: Engine) -> None:
        offer = offers.approved_quote()
        replays = api.metric("q2o_idempotency_replays_total", command="accept-quote")
        first = accept(api.customer, offer, key="accept-1")

        repeated = accept(api.customer, offer, key="accept-1")

        assert (repeated.status_code, repeated.json()) == (201, first.json())
        assert repeated.headers["Idempotent-Replayed"] == "true"
        assert "Idempotent-Replayed" not in first.headers
        assert (repeated.headers["ETag"], repeated.headers["Location"]) == (first.headers["ETag"], first.headers["Location"])
        assert count(db, SalesOrder) == 1
        assert api.metric("q2o_idempotency_replays_total", command="accept-quote") == replays + 1

    def test_a_repeated_key_with_another_body_is_422(self, api: Api) -> None:
        reused = api.metric("q2o_idempotency_hash_conflicts_total", command="create-quote")
        api.sales.post("/quotes", new_quote(), key="create-1")

        response = api.sales.post("/quotes", new_quote(customerId="another"), key="create-1")

        assert is_problem(response, 422, "IDEMPOTENCY_KEY_REUSED")["safeUserAction"] == "USE_A_NEW_KEY"
        assert api.metric("q2o_idempotency_hash_conflicts_total", command="create-quote") == reused + 1

    def test_a_repeated_key_with_another_version_is_422(self, api: Api) -> None:
        quote = opened(api)
        api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote), version=1, key="edit-1")

        response = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote), version=2, key="edit-1")

        is_problem(response, 422, "IDEMPOTENCY_KEY_REUSED")

    def test_a_stored_answer_is_only_for_its_caller(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()
        accept(api.customer, offer, key="accept-1")

        is_problem(accept(api.sales, offer, key="accept-1"), 422, "IDEMPOTENCY_KEY_REUSED")

    def test_a_replay_comes_before_the_precondition(self, api: Api) -> None:
        quote = opened(api)
        first = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote), version=1, key="edit-1")

        repeated = api.sales.patch(f"/quotes/{quote['quoteId']}", edit(quote), version=1, key="edit-1")

        assert (repeated.status_code, repeated.json()) == (200, first.json())

    def test_a_refusal_is_not_stored(self, api: Api) -> None:
        quote = opened(api)
        path = f"/quotes/{quote['quoteId']}"
        is_problem(api.sales.patch(path, edit(quote), version=7, key="edit-1"), 409, "QUOTE_VERSION_CONFLICT")

        assert api.sales.patch(path, edit(quote), version=1, key="edit-1").status_code == 200

    def test_the_same_key_of_two_tenants_does_not_collide(self, api: Api) -> None:
        other = api.caller(OWNER, Role.SALES_AGENT, tenant_id=uuid4())
        ours = api.sales.post("/quotes", new_quote(), key="create-1")

        theirs = other.post("/quotes", new_quote(customerId="theirs"), key="create-1")

        assert theirs.status_code == 201
        assert theirs.json()["quoteId"] != ours.json()["quoteId"]

    def test_another_key_on_the_identical_revision_gets_the_same_order(self, api: Api, offers: Offers) -> None:
        offer = offers.approved_quote()
        first = accept(api.customer, offer)

        second = accept(api.caller("partner-7", Role.PARTNER), offer)

        assert (second.status_code, second.json()["orderId"]) == (200, first.json()["orderId"])

    def test_a_quoted_key_is_the_same_key(self, api: Api) -> None:
        first = api.sales.post("/quotes", body := new_quote(), key="create-1")

        assert api.sales.post("/quotes", body, key='"create-1"').json() == first.json()


class TestDoubleSubmits:
    def test_the_same_key_twice_at_once_makes_one_order(self, api: Api, offers: Offers, db: Engine) -> None:
        """Kills: claiming the key by a look-up, or in a transaction of its own."""
        offer = offers.approved_quote()

        first, second = race_for_row(
            db, table_of(Quote), offer.quote_id, *[lambda: accept(api.customer, offer, key="accept-1")] * 2
        )

        assert [first.result().status_code, second.result().status_code] == [201, 201]
        assert second.result().headers["Idempotent-Replayed"] == "true"
        assert first.result().json() == second.result().json()
        assert count(db, SalesOrder) == 1

    def test_two_keys_at_once_make_one_order(self, api: Api, offers: Offers, db: Engine) -> None:
        """Kills: dropping the state condition of `quote.accept`."""
        offer = offers.approved_quote()

        first, second = race_for_row(db, table_of(Quote), offer.quote_id, *[lambda: accept(api.customer, offer)] * 2)

        assert [first.result().status_code, second.result().status_code] == [201, 200]
        assert first.result().json()["orderId"] == second.result().json()["orderId"]
        assert count(db, SalesOrder) == 1
