"""Which tokens are accepted. What each role may do is tested in test_http_matrix."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt
import pytest

from tests.support.http import (
    JWT_SECRET,
    Api,
    is_problem,
)
from tests.support.offers import OWNER
from workers.http.auth import DOCUMENTATION_PATHS, Role


class TestTokens:
    @pytest.mark.parametrize(
        "path", ["/quotes", "/quotes/x", "/approval-tasks", "/orders", "/no-such-path", "/metrics", "/healthz", "/readyz"]
    )
    def test_a_request_without_a_token_is_401(self, api: Api, path: str) -> None:
        response = api.client.get(path)

        is_problem(response, 401, "UNAUTHENTICATED")
        assert response.headers["WWW-Authenticate"] == "Bearer"

    def test_the_token_is_checked_before_the_body(self, api: Api) -> None:
        is_problem(api.client.post("/quotes", content=b"{"), 401, "UNAUTHENTICATED")

    @pytest.mark.parametrize("path", DOCUMENTATION_PATHS)
    def test_the_documentation_needs_no_token(self, api: Api, path: str) -> None:
        assert api.client.get(path).status_code == 200

    def test_an_expired_token_is_refused(self, api: Api) -> None:
        late = api.caller(OWNER, Role.SALES_AGENT, lifetime=timedelta(minutes=-1))

        assert "expired" in is_problem(late.get("/quotes"), 401, "UNAUTHENTICATED")["detail"]

    @pytest.mark.parametrize(
        ("claims", "secret", "algorithm"),
        [
            ({}, "another secret, as long as the right one", "HS256"),
            ({}, JWT_SECRET * 2, "HS512"),
            ({"tenant": "everybody"}, JWT_SECRET, "HS256"),
            ({"tenant": None}, JWT_SECRET, "HS256"),
            ({"region": 7}, JWT_SECRET, "HS256"),
            ({"customers": "customer-1"}, JWT_SECRET, "HS256"),
            ({"customers": [{}]}, JWT_SECRET, "HS256"),
            ({"roles": "salesAgent"}, JWT_SECRET, "HS256"),
            ({"roles": [1]}, JWT_SECRET, "HS256"),
            ({"sub": ""}, JWT_SECRET, "HS256"),
            ({"sub": "\u202ea"}, JWT_SECRET, "HS256"),
            ({"sub": "\ud800"}, JWT_SECRET, "HS256"),
            ({"exp": None}, JWT_SECRET, "HS256"),
            ({"iat": None}, JWT_SECRET, "HS256"),
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
