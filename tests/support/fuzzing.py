"""Two tenants whose people send valid and invalid requests by the OpenAPI document, with ids and versions from earlier responses.

schemathesis makes the requests and compares the responses with the document. This module adds what the document cannot say: who may see
which id. Every id in a response to a tenant belongs to that tenant, and must never stand in a response to the other one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import requests
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.specs.openapi import checks as document
from sqlalchemy import Engine, func, update

from domain.catalog import FIBRE, ROUTER, SUPPORT
from domain.errors import Refusal
from domain.offers.quotes import Quote
from domain.store import table_of
from tests.support.http import JWT_SECRET
from tests.support.offers import PRICE_BOOK, SIGNATURE, Offers
from workers.http.auth import BUYERS, Role
from workers.http.tokens import issue_token

# The first request for the document builds it, which takes long on a busy machine.
_PATIENCE = 60.0
AN_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
CUSTOMERS = ("customer-1", "customer-2")
SUBJECTS: Mapping[Role, str] = {role: f"{role}-person" for role in Role}
# What a buyer must never find in a response (OWASP API3).
INSIDE = re.compile(
    r'"(marginPercent|unitCost|maxDiscountPercent|ownerUserId|reasonCode|stalenessPolicy|providerName|authoritySnapshot)"'
)
CHECKS = [
    not_a_server_error,
    document.status_code_conformance,
    document.content_type_conformance,
    document.response_headers_conformance,
    document.response_schema_conformance,
]
# Responses that a stranger to an id may get: "not found", or one that does not depend on the id.
SAYS_NOTHING = {"NOT_FOUND", "REQUEST_INVALID", "IDEMPOTENCY_KEY_MISSING", "IDEMPOTENCY_KEY_INVALID", "PRECONDITION_INVALID"}
SAYS_NOTHING |= {
    "PRECONDITION_REQUIRED",
    "FORBIDDEN",
    "METHOD_NOT_ALLOWED",
    "BODY_TOO_LARGE",
    "OTHER_TASK",
    "IDEMPOTENCY_KEY_REUSED",
}


@dataclass(kw_only=True)
class Tally:
    """Counts of the requests and their responses."""

    requests: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    trespasses: int = 0
    faults: list[str] = field(default_factory=list)

    def count(self, case: Case[Any], response: Response) -> None:
        label = case.operation.label
        self.requests += 1
        self.statuses[response.status_code] += 1
        self.operations[label] += 1
        if response.status_code < 300:
            self.succeeded[label] += 1
        else:
            self.codes[_code(response)] += 1


@dataclass(kw_only=True)
class Tenant:
    """One tenant's people, the things that they have read, in the version they read last, and the ids that belong to the tenant."""

    offers: Offers
    quotes: dict[str, dict[str, Any]] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    grants: dict[str, dict[str, Any]] = field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    price_version: str | None = None
    ids: set[str] = field(default_factory=set)
    of_customers: dict[str, set[str]] = field(default_factory=lambda: {customer: set() for customer in CUSTOMERS})

    @classmethod
    def new(cls, database: Engine) -> Tenant:
        offers = Offers(database, uuid4())
        offers.grant_authority(SUBJECTS[Role.APPROVER_RSM])
        return cls(offers=offers)

    def token(self, roles: Sequence[Role], customers: Sequence[str] = CUSTOMERS[:1]) -> str:
        subject = SUBJECTS[roles[0]]
        return issue_token(JWT_SECRET, subject, self.offers.tenant_id, roles, "EU", timedelta(hours=1), customers)

    def learn(self, body: Any, sent: str, text: str) -> None:
        """Keep the ids of a response to the tenant's staff: they belong to the tenant, unless the request named them."""
        self.ids |= set(AN_ID.findall(text)) - set(AN_ID.findall(sent))
        for item in body.get("items", [body]) if isinstance(body, dict) else []:
            if "revisionId" in item and "lines" in item:
                self.quotes[item["quoteId"]] = item
                if item["customerId"] in self.of_customers:
                    self.of_customers[item["customerId"]] |= {item["quoteId"], item["revisionId"]}
            elif "taskId" in item:
                self.tasks[item["taskId"]] = item
            elif "grantId" in item:
                self.grants[item["grantId"]] = item
            elif "orderId" in item and "customerId" in item:
                self.orders[item["orderId"]] = item
                self.of_customers.get(item["customerId"], set()).add(item["orderId"])
            elif "activeVersion" in item:
                self.price_version = item["activeVersion"]

    def answer_of_the_policy(self, quote_id: str, *, asks: bool) -> None:
        """Do what the approval process does with a submitted quote: require a signature, or none."""
        wanted = (SIGNATURE,) if asks else ()
        try:
            self.offers.open_requirements(self.offers.quote(UUID(quote_id)), *wanted)
        except Refusal:
            return  # it had moved on

    def end(self, quote_id: str) -> None:
        """Let the end of an offer pass."""
        quote = table_of(Quote)
        with self.offers.engine.begin() as connection:
            connection.execute(update(quote).where(quote.c.id == UUID(quote_id)).values(valid_until=func.clock_timestamp()))


def known_members(quote: Mapping[str, Any], task: Mapping[str, Any], grant: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the members of a body, as they were read last."""
    return {
        **{name: quote.get(name) for name in ("revisionId", "configResultId", "priceResultId", "approvalRequestId", "documentId")},
        "expectedRevisionId": quote.get("revisionId"),
        "catalogVersion": quote.get("catalogVersion"),
        "priceBook": PRICE_BOOK,
        "requirementId": task.get("requirementId"),
        "expectedRequirementVersion": task.get("requirementVersion"),
        **({"quoteRevisionId": task["quoteRevisionId"], "priceResultId": task["priceResultId"]} if task else {}),
        "maxDiscountPercent": grant.get("maxDiscountPercent"),
    }


def prices(expected: str | None, version: str) -> dict[str, Any]:
    """A publication that the catalog's offerings can be priced by."""
    entries = [{"productOfferingId": name, "listPrice": "80", "unitCost": "40"} for name in (FIBRE, ROUTER, SUPPORT)]
    return {"expectedActiveVersion": expected, "priceBookVersion": version, "entries": entries, "materialOfferingIds": [FIBRE]}


def lines() -> list[dict[str, Any]]:
    """Lines that the catalog takes."""
    return [{"productOfferingId": name, "quantity": 1, "termMonths": 12, "discountPercent": "20"} for name in (FIBRE, ROUTER)]


class Desk:
    """Sends requests for two tenants, and checks every response."""

    def __init__(self, address: str) -> None:
        self.schema = schemathesis.openapi.from_url(f"{address}/openapi.json", timeout=_PATIENCE)
        found = [result.ok() for result in self.schema.get_all_operations() if isinstance(result, Ok)]
        self.operations = {operation.label: operation for operation in found}
        self._session = requests.Session()
        self.tally = Tally()
        self.tenants: Sequence[Tenant] = ()

    def close(self) -> None:
        self._session.close()

    def send(self, case: Case[Any], tenant: Tenant, roles: Sequence[Role], *, foreign: bool, must_refuse: bool = False) -> Response:
        """Send a request as a person of a tenant; `foreign`: its path names a thing of the other tenant."""
        response = case.call(session=self._session, headers={"Authorization": f"Bearer {tenant.token(roles)}"})
        self.tally.count(case, response)
        looks: list[Callable[[], None]] = [
            lambda: case.validate_response(response, checks=CHECKS),
            lambda: self._look(case, response, tenant, roles, foreign=foreign),
            lambda: _demand(case, response, must_refuse=must_refuse),
        ]
        for look in looks:
            try:
                look()
            except (AssertionError, FailureGroup) as fault:
                # The run goes on, so that it reports everything that it finds.
                self.tally.faults.append(f"{fault}\n{getattr(fault, 'exceptions', '')}")
        return response

    def _look(self, case: Case[Any], response: Response, tenant: Tenant, roles: Sequence[Role], *, foreign: bool) -> None:
        text, is_buyer = response.text, set(roles) <= BUYERS
        [other] = [each for each in self.tenants if each is not tenant]
        seen = set(AN_ID.findall(text))
        assert not seen & other.ids, f"another tenant's {seen & other.ids}\n{told(case, response)}"
        if foreign:
            self.tally.trespasses += 1
            assert _code(response) in SAYS_NOTHING, f"told a stranger\n{told(case, response)}"
        if is_buyer and response.status_code < 300:
            assert not INSIDE.search(text), f"a member that buyers must not see\n{told(case, response)}"
            others = tenant.of_customers[CUSTOMERS[1]]
            assert not seen & others, f"another customer's {seen & others}\n{told(case, response)}"
        is_told = response.status_code < 300 and response.headers["content-type"] == ["application/json"]
        if is_told and not is_buyer:
            sent = f"{case.formatted_path} {case.query} {case.body!r}"
            tenant.learn(response.json(), sent, text)


def _code(response: Any) -> str:
    try:
        return str(response.json().get("code"))
    except (ValueError, AttributeError):
        return "none"


def _demand(case: Case[Any], response: Response, *, must_refuse: bool) -> None:
    assert not must_refuse or response.status_code // 100 == 4, f"taken although it does not fit\n{told(case, response)}"


def told(case: Case[Any], response: Response) -> str:
    """Describe a request and its response, so that a person can send it again."""
    return f"{case.as_curl_command(headers=dict(response.request.headers))}\n-> {response.status_code} {response.text[:2000]}"
