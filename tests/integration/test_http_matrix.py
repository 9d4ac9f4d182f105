"""Access to every route of the edge, by every role, another customer and another tenant (OWASP API1, API5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi.routing import iter_route_contexts
from sqlalchemy import Engine, create_engine

from domain.catalog import CATALOG
from domain.delivery.steps import StepEvent
from tests.support.as_read import Offer, Order
from tests.support.database import empty
from tests.support.fulfilment import Fulfilment
from tests.support.http import JWT_SECRET, Api, Caller, accept, acceptance, edit, is_problem, named, new_quote
from tests.support.offers import BERT, PRICE_BOOK, Offers, offers_of_new_tenant
from tests.support.projected import show_all
from workers.http.app import create_app
from workers.http.auth import DOCUMENTATION_PATHS, Role
from workers.http.tokens import local_tokens

SELLER = {Role.SALES_AGENT}
BUYER = {Role.CUSTOMER, Role.PARTNER}
APPROVER = {Role.APPROVER_RSM, Role.APPROVER_DIRECTOR, Role.DEAL_DESK, Role.APPROVER_FINANCE, Role.APPROVER_LEGAL}
PRICER = {Role.PRICING_MANAGER}
ADMINISTRATOR = {Role.AUTHORITY_ADMIN}
CASE_WORKER = {Role.FALLOUT_L1, Role.FALLOUT_L2, Role.FALLOUT_MANAGERS}
FULFILLER = {Role.FULFILLMENT_MANAGERS}
HOLDER = APPROVER | CASE_WORKER | FULFILLER
ANYBODY: set[Role] = set()
# No row has this version: a caller who is let in is refused by it, so that nothing changes.
NO_VERSION = 10**6

WHO = {
    ("POST", "/quotes"): SELLER,
    ("GET", "/quotes"): SELLER | BUYER | APPROVER,
    ("GET", "/quotes/{quoteId}"): SELLER | BUYER | APPROVER,
    ("PATCH", "/quotes/{quoteId}"): SELLER,
    ("POST", "/quotes/{quoteId}/price"): SELLER,
    ("POST", "/quotes/{quoteId}/submissions"): SELLER,
    ("POST", "/quotes/{quoteId}/recalls"): SELLER,
    ("POST", "/quotes/{quoteId}/cancellations"): SELLER,
    ("POST", "/quotes/{quoteId}/documents"): SELLER,
    ("POST", "/quotes/{quoteId}/acceptances"): BUYER,
    ("POST", "/quotes/{quoteId}/declines"): BUYER,
    ("GET", "/quotes/{quoteId}/approvals"): SELLER | APPROVER,
    ("GET", "/approval-tasks"): APPROVER,
    ("POST", "/approval-tasks/{taskId}/decisions"): APPROVER,
    ("GET", "/authority-grants"): HOLDER | ADMINISTRATOR,
    ("POST", "/authority-grants"): ADMINISTRATOR,
    ("POST", "/authority-grants/{grantId}/confirmations"): ADMINISTRATOR,
    ("POST", "/authority-grants/{grantId}/delegations"): HOLDER,
    ("POST", "/authority-grants/{grantId}/revocations"): HOLDER | ADMINISTRATOR,
    ("GET", "/price-books/{priceBookId}"): PRICER,
    ("POST", "/price-books/{priceBookId}/publications"): PRICER,
    ("GET", "/orders"): SELLER | BUYER | APPROVER | CASE_WORKER | FULFILLER,
    ("GET", "/orders/{orderId}"): SELLER | BUYER | APPROVER | CASE_WORKER | FULFILLER,
    ("GET", "/orders/{orderId}/timeline"): SELLER | CASE_WORKER | FULFILLER,
    ("GET", "/orders/{orderId}/cancellations"): SELLER | BUYER | CASE_WORKER | FULFILLER,
    ("POST", "/orders/{orderId}/cancellations"): SELLER | BUYER | FULFILLER,
    ("POST", "/cancellations/{cancellationId}/decisions"): FULFILLER,
    ("GET", "/fallout-cases"): CASE_WORKER | FULFILLER,
    ("GET", "/fallout-cases/{caseId}"): CASE_WORKER | FULFILLER,
    **{
        ("POST", f"/fallout-cases/{{caseId}}/{what}"): CASE_WORKER
        for what in (
            *("claims", "releases", "information-requests", "holds", "resumptions", "escalations"),
            *("proposals", "confirmations", "declines", "resolutions"),
        )
    },
    ("POST", "/fallout-cases/{caseId}/information"): CASE_WORKER | SELLER | FULFILLER,
    ("POST", "/callbacks/{provider}"): ANYBODY,
    **{("GET", path): ANYBODY for path in DOCUMENTATION_PATHS},
}
GUARDED = [route for route, roles in WHO.items() if roles]
OF_AN_ID = [route for route in GUARDED if "{" in route[1]]
LISTS = [(method, path) for method, path in GUARDED if method == "GET" and "{" not in path]
OF_A_CUSTOMER = [(method, path) for method, path in OF_AN_ID if WHO[method, path] & BUYER]
OF_A_CASE: dict[str, dict[str, Any]] = {
    **{what: {} for what in ("claims", "releases", "resumptions", "escalations")},
    "information-requests": {"question": "Which one?"},
    "information": {"information": "This one."},
    "holds": {"reason": "until Monday"},
    "proposals": {"resolution": "MARK_COMPLETED", "expectedStepVersion": NO_VERSION, "externalRef": "r-1", "evidence": "seen"},
    "resolutions": {"resolution": "RETRY", "expectedStepVersion": NO_VERSION},
}
WITHOUT_VERSION = {"/quotes", "/authority-grants", "/approval-tasks/{taskId}/decisions", "/price-books/{priceBookId}/publications"}


def a_name(route: tuple[str, str]) -> str:
    return " ".join(route)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOfEverything:
    """One row of each kind that a path can name, in one tenant."""

    offer: Offer
    order: Order
    task_id: UUID
    waiting: Offer
    grant_id: UUID
    case_id: UUID
    proposal_id: UUID
    cancellation_id: UUID

    @property
    def ids(self) -> dict[str, str]:
        return {
            "quoteId": str(self.offer.quote_id),
            "orderId": str(self.order.order_id),
            "taskId": str(self.task_id),
            "grantId": str(self.grant_id),
            "caseId": str(self.case_id),
            "cancellationId": str(self.cancellation_id),
            "priceBookId": PRICE_BOOK,
        }


@pytest.fixture(scope="module")
def offers(migrated: Engine) -> Offers:
    """Give the builders of one tenant to all tests here. No request that is let in changes a row of `things`, so they share them."""
    empty(migrated)
    return offers_of_new_tenant(migrated)


@pytest.fixture(scope="module")
def things(offers: Offers) -> OneOfEverything:
    waiting = offers.quote_in_approval()
    [task_id] = offers.requirement_ids(waiting)
    work = Fulfilment.running(offers)
    work.say("RESERVE_INVENTORY", StepEvent.COMPLETE)  # before it was begun: there is a case
    work.claim(BERT)
    proposal_id = work.propose(BERT, external_ref="r-1")
    unwanted = Fulfilment.running(offers)
    unwanted.ask_to_cancel()
    grant = offers.grant_authority("gina")
    show_all(offers.engine)
    return OneOfEverything(
        offer=offers.approved_quote(),
        order=work.order,
        task_id=task_id,
        waiting=waiting,
        grant_id=grant.id,
        case_id=work.case().id,
        proposal_id=proposal_id,
        cancellation_id=unwanted.cancellation().id,
    )


def body_for(path: str, things: OneOfEverything, ids: Mapping[str, str]) -> dict[str, Any]:
    """A body that fits the path."""
    seen = things.offer.ids
    bodies: dict[str, Callable[[], dict[str, Any]]] = {
        "/quotes": new_quote,
        "/quotes/{quoteId}": lambda: edit(seen),
        "/quotes/{quoteId}/price": lambda: named(seen, "configResultId") | {"catalogVersion": CATALOG.catalog_version},
        "/quotes/{quoteId}/submissions": lambda: named(seen, "revisionId", "configResultId", "priceResultId"),
        "/quotes/{quoteId}/documents": lambda: named(seen, "revisionId", "priceResultId"),
        "/quotes/{quoteId}/acceptances": lambda: acceptance(things.offer),
        **{
            f"/quotes/{{quoteId}}/{how}": lambda: named(seen, "revisionId") | {"reasonCode": "NO_NEED"}
            for how in ("recalls", "cancellations", "declines")
        },
        "/approval-tasks/{taskId}/decisions": lambda: {
            "requirementId": ids["taskId"],
            "expectedRequirementVersion": NO_VERSION,
            "quoteRevisionId": str(things.waiting.revision_id),
            "priceResultId": str(things.waiting.price_result_id),
            "decision": "APPROVE",
            "reasonCode": "WITHIN_POLICY",
        },
        "/authority-grants": lambda: {"subject": "somebody", "role": "approverRsm", "maxDiscountPercent": "10"},
        "/authority-grants/{grantId}/delegations": lambda: {"subject": "somebody", "validUntil": "2100-01-01T00:00:00Z"},
        "/authority-grants/{grantId}/confirmations": dict,
        "/authority-grants/{grantId}/revocations": dict,
        "/cancellations/{cancellationId}/decisions": lambda: {"decision": "DECLINE", "reason": "NO_NEED"},
        "/fallout-cases/{caseId}/confirmations": lambda: {"proposalId": str(things.proposal_id), "text": "seen"},
        "/fallout-cases/{caseId}/declines": lambda: {"proposalId": str(things.proposal_id), "text": "not seen"},
        "/orders/{orderId}/cancellations": lambda: {"expectedStatus": "IN_PROGRESS", "reason": "NO_NEED"},
        "/price-books/{priceBookId}/publications": lambda: {
            "expectedActiveVersion": "no such version",
            "priceBookVersion": "another",
            "entries": [{"productOfferingId": "FIBRE_1000", "listPrice": "1", "unitCost": "1"}],
        },
    }
    return bodies[path]() if path in bodies else OF_A_CASE[path.rpartition("/")[2]]


def ask(caller: Caller, route: tuple[str, str], things: OneOfEverything, **ids: str) -> httpx.Response:
    """Send a request that fits the route; `ids` replace those of the things."""
    method, path = route
    ids = things.ids | ids
    target = path.format_map(ids)
    if method == "GET":
        return caller.get(target)
    version = None if path in WITHOUT_VERSION else NO_VERSION
    return caller.command(method, target, body_for(path, things, ids), version=version)


def test_every_route_has_a_row_in_the_matrix() -> None:
    app = create_app(create_engine("postgresql+psycopg://"), local_tokens(JWT_SECRET), {})

    assert {
        (method, route.path) for route in iter_route_contexts(app.routes) for method in route.methods or () if method != "HEAD"
    } == set(WHO)


@pytest.mark.parametrize("route", GUARDED, ids=a_name)
def test_no_route_works_without_a_token(api: Api, offers: Offers, route: tuple[str, str]) -> None:
    method, path = route
    ids = {
        "quoteId": uuid4(),
        "orderId": uuid4(),
        "taskId": uuid4(),
        "grantId": uuid4(),
        "caseId": uuid4(),
        "cancellationId": uuid4(),
        "priceBookId": PRICE_BOOK,
    }

    is_problem(api.client.request(method, path.format_map(ids)), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize("route", GUARDED, ids=a_name)
def test_only_these_roles_are_let_in(api: Api, things: OneOfEverything, route: tuple[str, str]) -> None:
    answers = {role: ask(api.caller("eve", role), route, things) for role in Role}

    assert {role for role, answer in answers.items() if answer.json().get("code") != "FORBIDDEN"} == WHO[route]
    # A refusal by the domain (another version, too little authority) comes only after the check of the role.
    assert {answers[role].status_code for role in WHO[route]} <= {200, 201, 403, 409}


@pytest.mark.parametrize("route", OF_AN_ID, ids=a_name)
def test_a_row_of_another_tenant_is_not_found(api: Api, things: OneOfEverything, route: tuple[str, str]) -> None:
    """The answer is the same, word by word, as for an id that does not exist."""
    stranger = api.caller("eve", *Role, tenant_id=uuid4())
    unused_ids = {name: str(uuid4()) for name in ("quoteId", "orderId", "taskId", "grantId", "caseId", "cancellationId")}

    answer, unknown = ask(stranger, route, things), ask(stranger, route, things, **unused_ids)

    problem = is_problem(answer, 404, "NOT_FOUND")
    assert problem.keys() == {"type", "title", "status", "code", "detail", "safeUserAction"}
    assert problem == unknown.json()


@pytest.mark.parametrize("route", LISTS, ids=a_name)
def test_a_list_has_only_rows_of_the_tenant(api: Api, things: OneOfEverything, route: tuple[str, str]) -> None:
    assert ask(api.caller("adam", *Role), route, things).json()["items"]

    assert ask(api.caller("adam", *Role, tenant_id=uuid4()), route, things).json()["items"] == []


@pytest.mark.parametrize("role", sorted(BUYER))
@pytest.mark.parametrize("route", OF_A_CUSTOMER, ids=a_name)
def test_a_buyer_does_not_find_a_row_of_another_customer(
    api: Api, offers: Offers, things: OneOfEverything, route: tuple[str, str], role: Role
) -> None:
    stranger = api.caller("eve", role, customers=["customer-2"])

    answer = ask(stranger, route, things)

    unknown = ask(stranger, route, things, quoteId=str(uuid4()), orderId=str(uuid4()))
    assert is_problem(answer, 404, "NOT_FOUND") == unknown.json()
    assert offers.quote(things.offer.quote_id) == things.offer


@pytest.mark.parametrize("customers", [[], ["customer-2"]])
@pytest.mark.parametrize("path", ["/quotes", "/orders"])
def test_the_lists_of_a_buyer_have_only_rows_of_their_customers(
    api: Api, things: OneOfEverything, path: str, customers: list[str]
) -> None:
    assert api.caller("carla", Role.CUSTOMER).get(path).json()["items"]

    assert api.caller("carla", Role.CUSTOMER, customers=customers).get(path).json()["items"] == []


def test_a_person_who_sells_and_buys_sees_every_quote_and_accepts_only_for_their_customers(
    api: Api, things: OneOfEverything
) -> None:
    both = api.caller("bo", Role.SALES_AGENT, Role.CUSTOMER, customers=["customer-2"])

    assert both.get(f"/quotes/{things.offer.quote_id}").json()["ownerUserId"]
    is_problem(accept(both, things.offer), 404, "NOT_FOUND")
