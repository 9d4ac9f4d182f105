"""The order of the checks of a request: sender, tenant, form, repeat, right, preconditions, command.

The refusals are described in docs/domain.md#refusals-logs-and-metrics. A caller without the right learns nothing about
versions, and a stranger does not learn whether a row exists.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support.http import Api, accept, acceptance, edit, is_problem, opened, serving
from tests.support.offers import CUSTOMER, OWNER, Offers
from workers.http.auth import Role
from workers.http.limits import Limits

NO_JSON = b"{"


def test_a_request_with_every_fault_is_refused_for_one_fault_at_a_time(api: Api) -> None:
    quote = opened(api)
    own, unknown = f"/quotes/{quote['quoteId']}", f"/quotes/{uuid4()}"
    body: dict[str, Any] = {"json": edit(quote)}
    token = {"Authorization": f"Bearer {api.caller(OWNER, Role.DEAL_DESK).token}"}
    seller = {"Authorization": f"Bearer {api.sales.token}"}
    api.sales.patch(own, edit(quote), version=1, key="used")
    version, stale = {"If-Match": '"2"'}, {"If-Match": '"1"'}
    used, fresh = {"Idempotency-Key": "used"}, {"Idempotency-Key": "fresh"}
    moved_on = {"json": edit(quote) | {"expectedRevisionId": str(uuid4())}}
    steps: list[tuple[str, dict[str, str], dict[str, Any], int, str]] = [
        (unknown, {}, {"content": NO_JSON}, 401, "UNAUTHENTICATED"),
        (unknown, token, {"content": NO_JSON}, 422, "REQUEST_INVALID"),
        (unknown, token, body, 400, "IDEMPOTENCY_KEY_MISSING"),
        (unknown, token | used, {"json": {}}, 422, "REQUEST_INVALID"),
        (unknown, token | used, body, 422, "IDEMPOTENCY_KEY_REUSED"),
        (unknown, token | fresh, body, 403, "FORBIDDEN"),
        (unknown, seller | fresh, body, 428, "PRECONDITION_REQUIRED"),
        (unknown, seller | fresh | version, body, 404, "NOT_FOUND"),
        (own, seller | fresh | stale, moved_on, 409, "QUOTE_VERSION_CONFLICT"),
        (own, seller | fresh | version, moved_on, 409, "STALE_REVISION"),
    ]

    for path, headers, content, status, code in steps:
        is_problem(api.client.patch(path, headers={"Content-Type": "application/json", **headers}, **content), status, code)
    assert api.client.patch(own, headers=seller | fresh | version, **body).status_code == 200


def test_the_rate_is_checked_before_the_body(offers: Offers) -> None:
    with serving(offers.engine, offers.tenant_id, Limits(rate=0.001, burst=1)) as api:
        api.sales.get("/quotes")

        is_problem(api.client.post("/quotes", content=NO_JSON), 401, "UNAUTHENTICATED")
        headers = {"Authorization": f"Bearer {api.sales.token}", "Content-Type": "application/json"}
        is_problem(api.client.post("/quotes", content=NO_JSON, headers=headers), 429, "TOO_MANY_REQUESTS")


def test_a_repeat_is_answered_although_the_caller_has_lost_the_right(api: Api, offers: Offers) -> None:
    """The command was carried out, and its caller may see the answer again."""
    offer = offers.approved_quote()
    first = accept(api.customer, offer, key="accept-1")

    for later in (api.caller(CUSTOMER, Role.SALES_AGENT), api.caller(CUSTOMER, Role.CUSTOMER, customers=["customer-2"])):
        repeated = accept(later, offer, key="accept-1")
        assert (repeated.status_code, repeated.json()) == (201, first.json())
        assert repeated.headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize(
    ("customers", "status", "code"), [(["customer-2"], 404, "NOT_FOUND"), ([CUSTOMER], 428, "PRECONDITION_REQUIRED")]
)
def test_the_customer_is_checked_before_the_version(api: Api, offers: Offers, customers: list[str], status: int, code: str) -> None:
    offer = offers.approved_quote()
    buyer = api.caller("carla", Role.CUSTOMER, customers=customers)

    is_problem(buyer.post(f"/quotes/{offer.quote_id}/acceptances", acceptance(offer)), status, code)


@pytest.mark.parametrize(
    ("path", "query"), [("/quotes", {"limit": 0}), ("/orders", {"after": "x"}), ("/authority-grants", {"limit": 201})]
)
def test_the_form_of_a_query_is_checked_before_the_role(api: Api, path: str, query: dict[str, Any]) -> None:
    is_problem(api.caller("eve").get(path, **query), 422, "REQUEST_INVALID")
