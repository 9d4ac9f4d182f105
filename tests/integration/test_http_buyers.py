"""A buyer sees what is needed to accept or decline, and nothing about how the offer was made (OWASP API3)."""

from __future__ import annotations

from uuid import UUID

import pytest

from tests.support.as_read import Offer
from tests.support.http import Api, edit, is_problem, withdraw
from tests.support.offers import CUSTOMER, OWNER, Offers
from tests.support.projected import show_all
from workers.http.auth import Role

INSIDE = (
    "margin",
    "cost",
    "ownerUserId",
    "reasonCode",
    "configuration",
    "priceBook",
    "staleness",
    "provider",
    "maxDiscount",
    "region",
)
HEADER = {
    "quoteId",
    "quoteNumber",
    "version",
    "status",
    "customerId",
    "currency",
    "netTotal",
    "paymentTermDays",
    "validUntil",
    "createdAt",
    "updatedAt",
}
ORDER_HEADER = {
    "orderId",
    "orderNumber",
    "orderKind",
    "version",
    "status",
    "quoteId",
    "quoteRevisionId",
    "customerId",
    "currency",
    "netTotal",
    "requestedCompletion",
    "createdAt",
    "updatedAt",
}


@pytest.fixture
def offer(api: Api, offers: Offers) -> Offer:
    """A quote that was edited and approved, with the reasons that seller and approver gave."""
    draft = offers.draft_quote()
    api.sales.patch(f"/quotes/{draft.quote_id}", edit(draft.ids, reasonCode="INSIDE_REASON"), version=draft.version)
    waiting = offers.open_requirements(offers.submit(offers.price(offers.quote(draft.quote_id))))
    return offers.issue_document(waiting)


def test_a_buyer_sees_only_listed_members_of_a_quote(api: Api, offer: Offer) -> None:
    answer = api.customer.get(f"/quotes/{offer.quote_id}")

    quote = answer.json()
    ids = {"revisionId", "revisionNo", "priceResultId", "approvalRequestId", "documentId", "orderId"}
    assert quote.keys() == HEADER | ids | {"price", "lines"}
    assert quote["price"].keys() == {"listTotal", "netTotal"}
    assert all(
        line.keys() == {"lineNo", "productOfferingId", "quantity", "termMonths", "discountPercent"} for line in quote["lines"]
    )
    assert not [word for word in (*INSIDE, OWNER, "INSIDE_REASON") if word in answer.text]
    assert answer.headers["ETag"] == f'"{offer.version}"'


def test_a_buyer_sees_only_listed_members_in_lists(api: Api, offers: Offers, offer: Offer) -> None:
    offers.accepted_quote()
    show_all(offers.engine)

    for path, members in (("/quotes", HEADER | {"currentRevisionId"}), ("/orders", ORDER_HEADER)):
        answer = api.customer.get(path)
        assert all(item.keys() == members for item in answer.json()["items"])
        assert not [word for word in (*INSIDE, OWNER) if word in answer.text]


def test_a_buyer_sees_only_listed_members_of_an_order(api: Api, offers: Offers) -> None:
    order = offers.running_order()

    answer = api.customer.get(f"/orders/{order.order_id}")

    assert answer.json().keys() == ORDER_HEADER | {"steps"}
    assert all(step.keys() == {"stepId", "stepCode", "kind", "status"} for step in answer.json()["steps"])
    assert not [word for word in INSIDE if word in answer.text]


def test_the_seller_sees_every_member(api: Api, offer: Offer) -> None:
    quote = api.sales.get(f"/quotes/{offer.quote_id}").json()

    assert quote["configuration"] == {"valid": True, "messages": [], "catalogVersion": quote["catalogVersion"]}
    assert (quote["reasonCode"], quote["ownerUserId"]) == ("INSIDE_REASON", OWNER)
    assert quote["price"].keys() >= {"marginPercent", "maxDiscountPercent"}


def test_a_configuration_that_cannot_be_sold_says_why(api: Api, offers: Offers) -> None:
    draft = offers.draft_quote()

    edited = api.sales.patch(f"/quotes/{draft.quote_id}", edit(draft.ids, removeLines=[1]), version=draft.version).json()

    assert not edited["configuration"]["valid"]
    assert edited["configuration"]["messages"]


def test_a_buyer_who_declines_gets_the_answer_for_buyers(api: Api, offers: Offers, offer: Offer) -> None:
    answer = withdraw(api.customer, offer, "declines", reason="TOO_SLOW")

    assert (answer.status_code, answer.json()["status"]) == (201, "DECLINED")
    assert "reasonCode" not in answer.text
    assert api.sales.get(f"/quotes/{offer.quote_id}").json()["reasonCode"] == "TOO_SLOW"
    assert offers.quote(offer.quote_id).order_id == UUID(int=0)


def test_a_buyer_does_not_see_another_customer(api: Api, offers: Offers, offer: Offer) -> None:
    offers.draft_quote(customer_id="customer-2")
    show_all(offers.engine)

    assert api.customer.get("/quotes", customerId="customer-2").json()["items"] == []
    assert {item["customerId"] for item in api.customer.get("/quotes").json()["items"]} == {CUSTOMER}


def test_a_buyer_of_two_customers_sees_both(api: Api, offers: Offers, offer: Offer) -> None:
    other = offers.draft_quote(customer_id="customer-2")
    broker = api.caller("bea", Role.PARTNER, customers=[CUSTOMER, "customer-2"])
    show_all(offers.engine)

    assert {item["quoteId"] for item in broker.get("/quotes").json()["items"]} == {str(offer.quote_id), str(other.quote_id)}


def test_a_buyer_does_not_see_the_approval(api: Api, offer: Offer) -> None:
    is_problem(api.customer.get(f"/quotes/{offer.quote_id}/approvals"), 403, "FORBIDDEN")
