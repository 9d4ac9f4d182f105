"""Who gets in and what they may do: tokens, roles, tenants."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from sqlalchemy import Engine

from domain.store.facts import ConflictLog
from tests.support.database import count
from tests.support.http import (
    JWT_SECRET,
    Api,
    edit,
    is_problem,
    new_quote,
)
from tests.support.offers import OWNER, Offers
from workers.http.auth import Role
from workers.http.edge import HttpEdge

COMMANDS = [
    ("POST", "/quotes", Role.CUSTOMER),
    ("PATCH", "/quotes/{quote}", Role.CUSTOMER),
    ("POST", "/quotes/{quote}/price", Role.APPROVER_RSM),
    ("POST", "/quotes/{quote}/submissions", Role.PARTNER),
    ("POST", "/quotes/{quote}/documents", Role.CUSTOMER),
    ("POST", "/quotes/{quote}/acceptances", Role.SALES_AGENT),
    ("POST", "/approval-tasks/{task}/decisions", Role.SALES_AGENT),
]
READS = ["/quotes/{quote}", "/orders/{order}"]


def bodies_of(body: dict[str, Any], task_id: UUID) -> dict[str, Any]:
    """A body that fits each command, for a quote that was read."""
    names = ("revisionId", "configResultId", "priceResultId", "approvalRequestId", "documentId")
    ids = {name: body[name] or str(uuid4()) for name in names}
    decision = {
        "requirementId": str(task_id),
        "expectedRequirementVersion": 1,
        "quoteRevisionId": ids["revisionId"],
        "priceResultId": ids["priceResultId"],
        "decision": "APPROVE",
        "reasonCode": "WITHIN_POLICY",
    }
    return {
        "/quotes": new_quote(),
        "/quotes/{quote}": edit(body),
        "/quotes/{quote}/price": {"configResultId": ids["configResultId"], "catalogVersion": "any"},
        "/quotes/{quote}/submissions": {name: ids[name] for name in ("revisionId", "configResultId", "priceResultId")},
        "/quotes/{quote}/documents": {name: ids[name] for name in ("revisionId", "priceResultId")},
        "/quotes/{quote}/acceptances": {
            name: ids[name] for name in ("revisionId", "priceResultId", "approvalRequestId", "documentId")
        },
        "/approval-tasks/{task}/decisions": decision,
    }


class TestTokens:
    @pytest.mark.parametrize("path", ["/quotes", "/quotes/x", "/approval-tasks", "/orders", "/no-such-path", "/metrics/x"])
    def test_without_a_token_nothing_is_told(self, api: Api, path: str) -> None:
        response = api.client.get(path)

        is_problem(response, 401, "UNAUTHENTICATED")
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_the_token_is_asked_for_before_the_body_is_looked_at(self, api: Api) -> None:
        is_problem(api.client.post("/quotes", content=b"{"), 401, "UNAUTHENTICATED")

    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/openapi.json"])
    def test_the_platform_needs_no_token(self, api: Api, path: str) -> None:
        assert api.client.get(path).status_code == 200

    def test_an_expired_token_is_refused(self, api: Api) -> None:
        late = api.caller(OWNER, Role.SALES_AGENT, lifetime=timedelta(seconds=-1))

        assert "expired" in is_problem(late.get("/quotes"), 401, "UNAUTHENTICATED")["detail"]

    @pytest.mark.parametrize(
        ("claims", "secret", "algorithm"),
        [
            ({}, "another secret, as long as the right one", "HS256"),
            ({}, JWT_SECRET * 2, "HS512"),
            ({"tenant": "everybody"}, JWT_SECRET, "HS256"),
            ({"tenant": None}, JWT_SECRET, "HS256"),
            ({"roles": "salesAgent"}, JWT_SECRET, "HS256"),
            ({"roles": [1]}, JWT_SECRET, "HS256"),
            ({"sub": ""}, JWT_SECRET, "HS256"),
            ({"exp": None}, JWT_SECRET, "HS256"),
        ],
    )
    def test_a_token_that_is_not_ours_is_refused(self, api: Api, claims: dict[str, Any], secret: str, algorithm: str) -> None:
        good = jwt.decode(api.sales.token, JWT_SECRET, ["HS256"])
        forged = {name: value for name, value in {**good, **claims}.items() if value is not None}
        token = jwt.encode(forged, secret, algorithm)

        is_problem(api.client.get("/quotes", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHENTICATED")

    def test_a_token_without_a_signature_is_refused(self, api: Api) -> None:
        claims = jwt.decode(api.sales.token, JWT_SECRET, ["HS256"])
        token = jwt.encode(claims, "", "none")

        is_problem(api.client.get("/quotes", headers={"Authorization": f"Bearer {token}"}), 401, "UNAUTHENTICATED")

    def test_a_secret_that_keeps_nobody_out_is_refused_at_the_start(self, db: Engine) -> None:
        with pytest.raises(ValueError, match="Q2O_JWT_SECRET"):
            HttpEdge(db, jwt_secret="short", callback_secrets={})


class TestRolesAndTenants:
    @pytest.mark.parametrize(("method", "path", "role"), COMMANDS)
    def test_a_command_needs_its_role(self, api: Api, offers: Offers, method: str, path: str, role: Role) -> None:
        offer = offers.approved_quote()
        [task_id] = offers.requirement_ids(offer)
        body = bodies_of(offer.body, task_id)[path]
        target = path.format(quote=offer.quote_id, task=task_id)

        response = api.caller("eve", role).command(method, target, body, version=offer.version)

        is_problem(response, 403, "FORBIDDEN")
        assert offers.quote(offer.quote_id) == offer

    @pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in COMMANDS if path != "/quotes"])
    def test_another_tenants_quote_cannot_be_commanded(self, api: Api, offers: Offers, db: Engine, method: str, path: str) -> None:
        offer = offers.approved_quote()
        [task_id] = offers.requirement_ids(offer)
        other = Offers(db, uuid4())
        other.publish_prices()
        stranger = api.caller("eve", *Role, tenant_id=other.tenant_id)
        target = path.format(quote=offer.quote_id, task=task_id)

        response = stranger.command(method, target, bodies_of(offer.body, task_id)[path], version=offer.version)

        problem = is_problem(response, 404, "NOT_FOUND")
        assert {"currentVersion", "quoteId"}.isdisjoint(problem)
        assert offers.quote(offer.quote_id) == offer

    @pytest.mark.parametrize("path", READS)
    def test_another_tenants_value_is_404(self, api: Api, offers: Offers, db: Engine, path: str) -> None:
        offer = offers.accepted_quote()
        target = path.format(quote=offer.quote_id, order=offer.order_id)
        assert api.sales.get(target).status_code == 200

        is_problem(api.caller("eve", *Role, tenant_id=uuid4()).get(target), 404, "NOT_FOUND")
        assert count(db, ConflictLog) == 0

    @pytest.mark.parametrize("path", ["/quotes", "/orders", "/approval-tasks"])
    def test_a_list_holds_only_the_tenants_own(self, api: Api, offers: Offers, path: str) -> None:
        offers.accepted_quote()
        offers.quote_in_approval()
        assert api.approver.get(path).json()["items"]

        assert api.caller("eve", *Role, tenant_id=uuid4()).get(path).json()["items"] == []
