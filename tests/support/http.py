"""The HTTP edge for tests, listening on a port, and callers with tokens of their own."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine
from standardwebhooks.webhooks import Webhook

from domain.catalog import CATALOG, FIBRE, ROUTER
from domain.delivery import steps
from tests.support.as_read import Offer
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import APPROVER, CUSTOMER, OWNER, Offers
from workers.http.auth import Authenticate, Role
from workers.http.edge import HttpEdge
from workers.http.limits import Limits
from workers.http.tokens import issue_token, local_tokens
from workers.providers.signatures import new_secret
from workers.runtime.callback_secrets import CallbackSecrets
from workers.runtime.secret_files import Secret

JWT_SECRET = "a secret that is long enough for HS256"
CALLBACK_SECRET = new_secret()
PROVIDER = "sandbox"
PRICER, ADMINISTRATOR = "paula", "adam"
# The edge speaks plain HTTP, and to read the certificates of the system takes a client longer than the request of a test.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A person with a token."""

    client: httpx.Client
    token: str

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.client.get(path, params=query, headers=self._headers())

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.command("POST", path, body, **options)

    def patch(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.command("PATCH", path, body, **options)

    def command(
        self, method: str, path: str, body: Any, *, key: str | None = None, version: int | None = None, **headers: str
    ) -> httpx.Response:
        """Send a command under `key` (default: a new one), decided on `version`."""
        headers = {"Idempotency-Key": key or str(uuid4()), **({"If-Match": f'"{version}"'} if version else {}), **headers}
        return self.client.request(method, path, json=body, headers=self._headers(**headers))

    def _headers(self, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """The edge, as the people of one tenant call it."""

    client: httpx.Client
    tenant_id: UUID

    def caller(
        self,
        subject: str,
        *roles: str,
        tenant_id: UUID | None = None,
        lifetime: timedelta = timedelta(hours=1),
        customers: Sequence[str] = (CUSTOMER,),
    ) -> Caller:
        token = issue_token(JWT_SECRET, subject, tenant_id or self.tenant_id, roles, "EU", lifetime, customers)
        return Caller(client=self.client, token=token)

    @property
    def sales(self) -> Caller:
        return self.caller(OWNER, Role.SALES_AGENT)

    @property
    def approver(self) -> Caller:
        return self.caller(APPROVER, Role.APPROVER_RSM)

    @property
    def customer(self) -> Caller:
        return self.caller(CUSTOMER, Role.CUSTOMER)

    @property
    def pricer(self) -> Caller:
        return self.caller(PRICER, Role.PRICING_MANAGER)

    @property
    def administrator(self) -> Caller:
        return self.caller(ADMINISTRATOR, Role.AUTHORITY_ADMIN)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a counter of the edge, which runs in this process; 0 when it was never counted."""
        return metric(name, **labels)

    def call_back(
        self,
        event: dict[str, Any] | bytes,
        *,
        secret: str = CALLBACK_SECRET,
        provider: str = PROVIDER,
        sends: bytes | None = None,
        content_type: str = "application/json",
        **changes: str,
    ) -> httpx.Response:
        """Deliver an event as a provider does; `changes` replace signed headers (`id`, `timestamp`, `signature`), `sends` what was signed."""
        raw = event if isinstance(event, bytes) else json.dumps(event).encode()
        sent_at = datetime.now(UTC)
        event_id = changes.pop("id", None) or (str(event["eventId"]) if isinstance(event, dict) else "event")
        signature = Webhook(secret.removeprefix("whsec_")).sign(event_id, sent_at, raw.decode())
        headers = {"id": event_id, "timestamp": str(int(sent_at.timestamp())), "signature": signature, **changes}
        signed = {f"webhook-{name}": value for name, value in headers.items()}
        content = raw if sends is None else sends
        return self.client.post(f"/callbacks/{provider}", content=content, headers={**signed, "Content-Type": content_type})


def new_quote(**changes: Any) -> dict[str, Any]:
    """The body of `POST /quotes`: a fibre line and a router at 20 % off."""
    lines = [
        {"productOfferingId": offering, "quantity": 1, "termMonths": 12, "discountPercent": "20"} for offering in (FIBRE, ROUTER)
    ]
    valid_until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    return {"customerId": CUSTOMER, "region": "EU", "currency": "EUR", "validUntil": valid_until, "lines": lines, **changes}


def completed(tenant_id: UUID, step_id: UUID, **changes: Any) -> dict[str, Any]:
    """Make the event that reports a step as completed."""
    event = {
        "eventId": f"event-{uuid4()}",
        "eventType": "step.completed",
        "stepRef": steps.business_key(tenant_id, step_id),
        "requestId": "request-1",
        "externalRef": "external-1",
        "occurredAt": datetime.now(UTC).isoformat(),
    }
    return {**event, **changes}


def named(quote: dict[str, Any], *members: str) -> dict[str, Any]:
    """Take these members from a quote that was read, as the next command names them."""
    return {member: quote[member] for member in members}


def priced(sales: Caller, quote: dict[str, Any]) -> dict[str, Any]:
    """Price a quote that was read; returns its new state."""
    body = {"configResultId": quote["configResultId"], "catalogVersion": CATALOG.catalog_version}
    response = sales.post(f"/quotes/{quote['quoteId']}/price", body, version=quote["version"])
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def opened(api: Api) -> dict[str, Any]:
    """Create a quote; returns it."""
    response = api.sales.post("/quotes", new_quote())
    assert response.status_code == 201, response.text
    quote: dict[str, Any] = response.json()
    return quote


def acceptance(offer: Offer) -> dict[str, Any]:
    """Make the body of an acceptance: everything that the customer of an approved quote saw."""
    members = ("revisionId", "priceResultId", "approvalRequestId", "documentId")
    return {**named(offer.ids, *members), "channel": "WEB"}


def accept(caller: Caller, offer: Offer, **options: Any) -> httpx.Response:
    """Accept an approved quote."""
    options.setdefault("version", offer.version)
    return caller.post(f"/quotes/{offer.quote_id}/acceptances", acceptance(offer), **options)


def edit(quote: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Make the body of an edit: the revision of a quote that was read, and changes to it."""
    return {"expectedRevisionId": quote["revisionId"], "reasonCode": "CUSTOMER_ASKED", **changes}


def is_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Demand a problem document with this status and code; returns it."""
    assert (response.status_code, response.json().get("code")) == (status, code), response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = response.json()
    assert {"type", "title", "status", "code", "detail", "safeUserAction"} <= set(problem)
    return problem


def withdraw(caller: Caller, offer: Offer, how: str, **options: Any) -> httpx.Response:
    """Withdraw or decline a quote: `how` is recalls, cancellations or declines."""
    options.setdefault("version", offer.version)
    body = {"revisionId": str(offer.revision_id), "reasonCode": options.pop("reason", "PROJECT_POSTPONED")}
    return caller.post(f"/quotes/{offer.quote_id}/{how}", body, **options)


def decide(caller: Caller, offer: Offer, requirement_id: UUID, **changes: Any) -> httpx.Response:
    """Decide a requirement (default: approve it)."""
    body = {
        "requirementId": str(requirement_id),
        "expectedRequirementVersion": 1,
        "quoteRevisionId": str(offer.revision_id),
        "priceResultId": str(offer.price_result_id),
        "decision": "APPROVE",
        "reasonCode": "WITHIN_POLICY",
        **changes,
    }
    return caller.post(f"/approval-tasks/{requirement_id}/decisions", body)


def client_of(edge: HttpEdge) -> httpx.Client:
    """Make a client of an edge; it trusts no certificate, and takes answers as they are."""
    return httpx.Client(base_url=edge.address, timeout=30, verify=_NO_CERTIFICATES, headers={"Accept-Encoding": "identity"})


@contextmanager
def serving(
    database: Engine,
    tenant_id: UUID,
    limits: Limits | None = None,
    *,
    callback_secret: Secret = CALLBACK_SECRET,
    authenticate: Authenticate | None = None,
) -> Iterator[Api]:
    """Run an edge of the test's own: no other test meets its faults."""
    edge = HttpEdge(
        acting(database, "http"),
        authenticate=authenticate or local_tokens(JWT_SECRET),
        callback_secrets={PROVIDER: CallbackSecrets(callback_secret)},
        limits=limits,
    )
    edge.start()
    try:
        with client_of(edge) as client:
            yield Api(client=client, tenant_id=tenant_id)
    finally:
        edge.stop()


@pytest.fixture(scope="session")
def edge(migrated: Engine) -> Iterator[HttpEdge]:
    """The edge on the migrated database."""
    edge = HttpEdge(
        acting(migrated, "http"),
        authenticate=local_tokens(JWT_SECRET),
        callback_secrets={PROVIDER: CallbackSecrets(CALLBACK_SECRET)},
    )
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture
def api(edge: HttpEdge, offers: Offers) -> Iterator[Api]:
    """The edge for the tenant of `offers`."""
    with client_of(edge) as client:
        yield Api(client=client, tenant_id=offers.tenant_id)
