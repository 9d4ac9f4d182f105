"""Every refusal is counted once under its race, logged once, and recorded once (docs/domain.md#refusals-logs-and-metrics)."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import httpx
import pytest
import structlog
from prometheus_client import generate_latest
from sqlalchemy import Engine, func, update

from domain.catalog import FIBRE
from domain.offers.quotes import Quote
from domain.store import table_of
from domain.store.facts import ConflictLog
from tests.support.database import count
from tests.support.http import Api, accept, decide, edit, withdraw
from tests.support.offers import PRICE_BOOK, Offers
from workers.http.auth import Role

FAMILIES = (
    "q2o_optimistic_lock_conflicts_total",
    "q2o_idempotency_replays_total",
    "q2o_idempotency_hash_conflicts_total",
    "q2o_stale_approval_rejections_total",
    "q2o_stale_price_rejections_total",
    "q2o_quote_expired_rejections_total",
    "q2o_transition_rejections_total",
)
Request = Callable[[Api, Offers], httpx.Response]


def counted() -> dict[str, float]:
    """The count of each metric, over all its labels."""
    lines = generate_latest().decode().splitlines()
    return {
        family: sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{family} ", f"{family}{{")))
        for family in FAMILIES
    }


def a_stale_version(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.approved_quote()
    return accept(api.customer, offer, version=offer.version - 1)


def a_stale_version_of_a_grant(api: Api, offers: Offers) -> httpx.Response:
    return api.administrator.post(f"/authority-grants/{offers.grant_authority('nils').id}/revocations", {}, version=7)


def a_price_book_that_was_published_meanwhile(api: Api, offers: Offers) -> httpx.Response:
    entries = [{"productOfferingId": FIBRE, "listPrice": "1", "unitCost": "1"}]
    body = {"expectedActiveVersion": "p-1", "priceBookVersion": "p-2", "entries": entries}
    return api.pricer.post(f"/price-books/{PRICE_BOOK}/publications", body)


def a_stale_revision(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.draft_quote()
    body = edit(offer.ids) | {"expectedRevisionId": str(uuid4())}
    return api.sales.patch(f"/quotes/{offer.quote_id}", body, version=offer.version)


def a_decision_on_another_price(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.quote_in_approval()
    return decide(api.approver, offer, offers.requirement_ids(offer)[0], priceResultId=str(uuid4()))


def an_approval_that_is_void(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.approved_quote()
    edited = api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids, termMonths=24), version=offer.version).json()
    return accept(api.customer, offer, version=edited["version"])


def a_price_that_is_out_of_date(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.approved_quote(policy="REPRICE_REQUIRED_ON_PUBLISH")
    offers.publish_prices("p-45", replaces="p-44")
    return accept(api.customer, offer)


def an_offer_that_has_ended(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.approved_quote()
    with offers.engine.begin() as connection:
        connection.execute(update(table_of(Quote)).values(valid_until=func.clock_timestamp()))
    return withdraw(api.customer, offer, "declines")


def a_state_that_does_not_take_it(api: Api, offers: Offers) -> httpx.Response:
    return withdraw(api.sales, offers.draft_quote(), "recalls")


def a_right_that_is_missing(api: Api, offers: Offers) -> httpx.Response:
    return withdraw(api.caller("eve", Role.DEAL_DESK), offers.draft_quote(), "cancellations")


def an_authority_that_is_missing(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.quote_in_approval()
    return decide(api.caller("eve", Role.APPROVER_RSM), offer, offers.requirement_ids(offer)[0])


def a_quote_that_is_not_there(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.draft_quote()
    return api.sales.patch(f"/quotes/{uuid4()}", edit(offer.ids), version=1)


def a_key_that_was_used(api: Api, offers: Offers) -> httpx.Response:
    offer = offers.draft_quote()
    withdraw(api.sales, offer, "cancellations", key="cancel-1")
    return withdraw(api.sales, offer, "cancellations", key="cancel-1", reason="ANOTHER")


def test_a_repeat_is_counted_once_and_not_as_a_refusal(api: Api, offers: Offers, db: Engine) -> None:
    offer = offers.draft_quote()
    withdraw(api.sales, offer, "cancellations", key="cancel-1")
    before = counted()

    assert withdraw(api.sales, offer, "cancellations", key="cancel-1").status_code == 201

    assert counted() == {**before, "q2o_idempotency_replays_total": before["q2o_idempotency_replays_total"] + 1}
    assert count(db, ConflictLog) == 0


@pytest.mark.parametrize(
    ("request_", "code", "families"),
    [
        (a_stale_version, "QUOTE_VERSION_CONFLICT", {"optimistic_lock_conflicts", "transition_rejections"}),
        (a_stale_version_of_a_grant, "GRANT_VERSION_CONFLICT", {"optimistic_lock_conflicts", "transition_rejections"}),
        (
            a_price_book_that_was_published_meanwhile,
            "PRICE_BOOK_CONFLICT",
            {"optimistic_lock_conflicts", "transition_rejections"},
        ),
        (a_stale_revision, "STALE_REVISION", {"transition_rejections"}),
        (a_decision_on_another_price, "STALE_APPROVAL", {"stale_approval_rejections", "transition_rejections"}),
        (an_approval_that_is_void, "STALE_APPROVAL", {"stale_approval_rejections", "transition_rejections"}),
        (a_price_that_is_out_of_date, "STALE_PRICE", {"stale_price_rejections", "transition_rejections"}),
        (an_offer_that_has_ended, "QUOTE_EXPIRED", {"quote_expired_rejections", "transition_rejections"}),
        (a_state_that_does_not_take_it, "INVALID_TRANSITION", {"transition_rejections"}),
        (a_right_that_is_missing, "FORBIDDEN", set()),
        (an_authority_that_is_missing, "AUTHORITY_EXCEEDED", set()),
        (a_quote_that_is_not_there, "NOT_FOUND", set()),
        (a_key_that_was_used, "IDEMPOTENCY_KEY_REUSED", {"idempotency_hash_conflicts"}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_refusal_is_counted_logged_and_recorded_once(
    api: Api, offers: Offers, request_: Request, code: str, families: set[str]
) -> None:
    before = counted()
    with structlog.testing.capture_logs() as logs:
        answer = request_(api, offers)

    assert answer.json()["code"] == code
    assert {name for name, value in counted().items() if value != before[name]} == {f"q2o_{name}_total" for name in families}
    assert all(counted()[f"q2o_{name}_total"] == before[f"q2o_{name}_total"] + 1 for name in families)
    assert [log["conflictCode"] for log in logs if log["event"] == "command_refused"] == [code]
    assert count(offers.engine, ConflictLog) == 1
