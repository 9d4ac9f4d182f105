"""The demo's client of the HTTP edge. It sends what a user interface would send, with versions and idempotency keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from workers.demo.people import CASE_WORKER, SALES, Actor, buyer_of, token_of

CONFLICT = 409
OFFER_VALID_FOR = timedelta(days=30)
UNTIL_ANSWERED = Retrying(
    retry=retry_if_exception_type(httpx.TransportError),
    stop=stop_after_attempt(3),
    wait=wait_random_exponential(max=3),
    reraise=True,
)


class UnexpectedAnswerError(Exception):
    """The HTTP edge gave an answer that the course of the sample quote does not expect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer: status, body, and whether it is the stored answer to an earlier request with the same key."""

    status: int
    body: dict[str, Any]
    replayed: bool

    def expect(self, *statuses: int) -> dict[str, Any]:
        """The body, if the status is one of these. Raises UnexpectedAnswerError for another status."""
        if self.status not in statuses:
            raise UnexpectedAnswerError(f"{self.status} {self.body.get('code')}: {self.body.get('detail')}")
        return self.body


class Api:
    """Commands and reads of one tenant."""

    def __init__(self, base_url: str, jwt_secret: str, tenant_id: UUID) -> None:
        self.tenant_id = tenant_id
        self._secret = jwt_secret
        self._http = httpx.Client(base_url=base_url, timeout=30)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, actor: Actor = SALES, **params: Any) -> Any:
        """The JSON at a path, as this actor may see it. Raises UnexpectedAnswerError."""
        response = self._request("GET", path, params=params, headers=self._headers(actor))
        if response.is_error:
            raise UnexpectedAnswerError(f"{response.status_code} to GET {path}: {response.text}")
        return response.json()

    def send(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        actor: Actor = SALES,
        version: int | None = None,
        key: str | None = None,
        method: str = "POST",
    ) -> Answer:
        """Send a command, with the version that it was decided on, under an idempotency key (a new one unless `key` is given).

        Raises UnexpectedAnswerError if there is no answer.
        """
        headers = self._headers(actor) | {"Idempotency-Key": f'"{key or uuid4()}"'}
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        response = self._request(method, path, json=dict(body), headers=headers)
        replayed = response.headers.get("Idempotent-Replayed") == "true"
        return Answer(status=response.status_code, body=response.json(), replayed=replayed)

    def quote(self, quote_id: str) -> dict[str, Any]:
        """A quote, as its seller sees it."""
        quote: dict[str, Any] = self.get(f"/quotes/{quote_id}")
        return quote

    def create(self, customer_id: str, discount_percent: str, quantity: int = 1) -> dict[str, Any]:
        """Create a quote for a fibre line with router and support, for 24 months. The discount is on the fibre line."""
        line = {"quantity": quantity, "termMonths": 24}
        offerings = {"FIBRE_1000": discount_percent, "ROUTER_PRO": "0", "SUPPORT_PLUS": "0"}
        lines = [{**line, "productOfferingId": name, "discountPercent": discount} for name, discount in offerings.items()]
        body = {"customerId": customer_id, "currency": "EUR", "region": "ID-JAVA", "paymentTermDays": 30, "lines": lines}
        body["validUntil"] = (datetime.now(UTC) + OFFER_VALID_FOR).isoformat()
        return self.send("/quotes", body).expect(201)

    def price(self, quote_id: str) -> None:
        """Price the current configuration."""
        quote = self.quote(quote_id)
        body = {"configResultId": quote["configResultId"], "catalogVersion": quote["catalogVersion"]}
        self.send(f"/quotes/{quote_id}/price", body, version=quote["version"]).expect(200)

    def submit(self, quote_id: str) -> None:
        """Submit the current revision for approval."""
        quote = self.quote(quote_id)
        body = {name: quote[name] for name in ("revisionId", "configResultId", "priceResultId")}
        self.send(f"/quotes/{quote_id}/submissions", body, version=quote["version"]).expect(200, 201, 202)

    def issue_document(self, quote_id: str) -> None:
        """Issue the document of the approved offer."""
        quote = self.quote(quote_id)
        body = {name: quote[name] for name in ("revisionId", "priceResultId")}
        self.send(f"/quotes/{quote_id}/documents", body, version=quote["version"]).expect(200, 201)

    def acceptance(self, quote: Mapping[str, Any], channel: str = "WEB") -> dict[str, Any]:
        """The body with which a customer accepts this quote as it is shown."""
        names = ("revisionId", "priceResultId", "approvalRequestId", "documentId")
        return {**{name: quote[name] for name in names}, "channel": channel}

    def accept(self, quote: Mapping[str, Any], body: Mapping[str, Any], key: str) -> Answer:
        """Accept as the customer."""
        buyer = buyer_of(quote["customerId"])
        return self.send(f"/quotes/{quote['quoteId']}/acceptances", body, actor=buyer, version=quote["version"], key=key)

    def withdraw(self, quote: Mapping[str, Any], how: str) -> None:
        """Withdraw an offer as its seller (`how`: recalls, cancellations), or turn it down as the customer (declines)."""
        actor = buyer_of(quote["customerId"]) if how == "declines" else SALES
        body = {"revisionId": quote["revisionId"], "reasonCode": "CUSTOMER_REQUEST"}
        self.send(f"/quotes/{quote['quoteId']}/{how}", body, actor=actor, version=quote["version"]).expect(201)

    def decide(self, task: Mapping[str, Any], actor: Actor, decision: str) -> Answer:
        """Decide a requirement, as an approver."""
        body = {
            "requirementId": task["requirementId"],
            "expectedRequirementVersion": task["requirementVersion"],
            "quoteRevisionId": task["quoteRevisionId"],
            "priceResultId": task["priceResultId"],
            "decision": decision,
            "reasonCode": "STRATEGIC_DEAL",
        }
        return self.send(f"/approval-tasks/{task['taskId']}/decisions", body, actor=actor)

    def cancel_order(self, order: Mapping[str, Any]) -> Answer:
        """Request, as the customer, the cancellation of an order as it is shown."""
        body = {"expectedStatus": order["status"], "reason": "CHANGED_MIND"}
        buyer = buyer_of(order["customerId"])
        return self.send(f"/orders/{order['orderId']}/cancellations", body, actor=buyer, version=order["version"])

    def repair_case(self, case: Mapping[str, Any], evidence: str, instructions: str) -> bool:
        """Claim an open case as a case worker, and have its step tried again with other instructions.

        Returns False when somebody else, or the product, changed the case first.
        """
        path = f"/fallout-cases/{case['caseId']}"
        claimed = self.send(f"{path}/claims", {}, actor=CASE_WORKER, version=case["version"])
        if claimed.status == CONFLICT:
            return False
        shown = claimed.expect(201)
        if shown["request"] is None:
            return False
        repair = {"field": "instructions", "old": shown["request"]["instructions"], "new": instructions}
        body = {
            "resolution": "REPAIR_AND_RETRY",
            "expectedStepVersion": shown["stepVersion"],
            "evidence": evidence,
            "repairs": [repair],
        }
        resolved = self.send(f"{path}/resolutions", body, actor=CASE_WORKER, version=shown["version"])
        return resolved.status != CONFLICT and bool(resolved.expect(201))

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Send a request, and repeat it while there is no answer. The edge carries out a command once, however often its key arrives."""
        try:
            return UNTIL_ANSWERED(self._http.request, method, path, **parts)
        except httpx.TransportError as error:
            raise UnexpectedAnswerError(f"no answer to {method} {path}: {error}") from error

    def _headers(self, actor: Actor) -> dict[str, str]:
        return {"Authorization": f"Bearer {token_of(actor, self._secret, self.tenant_id)}"}
