"""Authentication: a bearer JWT (HS256) with subject, tenant, roles and region. A buyer's token also names the customers that they buy for.

The rule: every path needs a token unless it is listed here as open. The token proves who calls; each path says which roles it lets in.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import jwt
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import Forbidden
from workers.http.problems import UnauthenticatedError, problem_of_request
from workers.runtime.environment import SettingError

ALGORITHM = "HS256"
# RFC 7518, section 3.2: the key is at least as long as the hash.
SHORTEST_SECRET_BYTES = 32
DOCUMENTATION_PATHS = ("/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css")
OPEN_PATHS = ("/healthz", "/readyz", "/metrics", *DOCUMENTATION_PATHS)
# Callbacks carry a signature instead, which `workers.http.routes.callbacks` verifies.
SIGNED_PATHS = "/callbacks/"


class Role(StrEnum):
    """The roles that a token may give its bearer. The approver roles are named like the engine's groups."""

    SALES_AGENT = "salesAgent"
    CUSTOMER = "customer"
    PARTNER = "partner"
    APPROVER_RSM = "approverRsm"
    APPROVER_DIRECTOR = "approverDirector"
    DEAL_DESK = "dealDesk"
    APPROVER_FINANCE = "approverFinance"
    APPROVER_LEGAL = "approverLegal"
    PRICING_MANAGER = "pricingManager"
    AUTHORITY_ADMIN = "authorityAdmin"
    FALLOUT_L1 = "falloutL1"
    FALLOUT_L2 = "falloutL2"
    FALLOUT_MANAGERS = "falloutManagers"
    FULFILLMENT_MANAGERS = "fulfillmentManagers"


SELLERS = frozenset({Role.SALES_AGENT})
BUYERS = frozenset({Role.CUSTOMER, Role.PARTNER})
APPROVERS = frozenset({Role.APPROVER_RSM, Role.APPROVER_DIRECTOR, Role.DEAL_DESK, Role.APPROVER_FINANCE, Role.APPROVER_LEGAL})
PRICERS = frozenset({Role.PRICING_MANAGER})
AUTHORITY_ADMINS = frozenset({Role.AUTHORITY_ADMIN})
CASE_WORKERS = frozenset({Role.FALLOUT_L1, Role.FALLOUT_L2, Role.FALLOUT_MANAGERS})
FULFILLERS = frozenset({Role.FULFILLMENT_MANAGERS})
TRADERS = SELLERS | BUYERS | APPROVERS
"""Roles that may read quotes."""
FOLLOWERS = TRADERS | CASE_WORKERS | FULFILLERS
"""Roles that may read orders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller, as the token proves. `subject` is the actor in every log row; `customers` are those that a buyer buys for."""

    subject: str
    tenant_id: UUID
    roles: Sequence[str]
    region: str
    customers: frozenset[str] = frozenset()

    def must_be(self, roles: Collection[str]) -> None:
        """Demand one of these roles. Raises Forbidden."""
        if not set(roles) & set(self.roles):
            raise Forbidden(f"This needs one of the roles {', '.join(sorted(roles))}; your token has none of them.")

    def confined_to(self, roles: Collection[str]) -> frozenset[str] | None:
        """The customers whose quotes and orders this caller gets where these roles are let in; None for every customer's.

        A caller who is let in only as a buyer gets nothing that belongs to another customer.
        """
        return self.customers if set(roles) & set(self.roles) <= BUYERS else None


def issue_token(  # noqa: PLR0917 - the claims in the order of the token
    secret: str,
    subject: str,
    tenant: UUID,
    roles: Sequence[str],
    region: str,
    lifetime: timedelta,
    customers: Sequence[str] = (),
) -> str:
    """Make a bearer token; a buyer's names `customers`. Whoever has the secret can issue a token for anybody: keep it away from clients."""
    claims = {"sub": subject, "tenant": str(tenant), "roles": list(roles), "region": region, "exp": datetime.now(UTC) + lifetime}
    return jwt.encode({**claims, "customers": list(customers)} if customers else claims, secret, ALGORITHM)


def principal_of(authorization: str | None, secret: str) -> Principal:
    """The caller behind an Authorization header. Raises UnauthenticatedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthenticatedError("Send a bearer token in the Authorization header.")
    try:
        claims = jwt.decode(token.strip(), secret, [ALGORITHM], options={"require": ["exp", "sub", "tenant", "roles"]})
        return _principal(claims)
    except jwt.ExpiredSignatureError as error:
        raise UnauthenticatedError("The token has expired: get a new one.") from error
    except (jwt.InvalidTokenError, TypeError, ValueError) as error:
        raise UnauthenticatedError("The token is not one of ours, or a claim is missing or malformed: get a new one.") from error


def _principal(claims: dict[str, Any]) -> Principal:
    subject, region = _text(claims["sub"]), _text(claims.get("region", ""))
    if not subject:
        raise ValueError("the token names no subject")
    return Principal(
        subject=subject,
        tenant_id=UUID(_text(claims["tenant"])),
        roles=_texts(claims["roles"]),
        region=region,
        customers=frozenset(_texts(claims.get("customers", []))),
    )


def _text(claim: object) -> str:
    if not isinstance(claim, str) or "\0" in claim:
        raise ValueError("a claim is not a string without NUL")
    return claim


def _texts(claim: object) -> tuple[str, ...]:
    if not isinstance(claim, list):
        raise TypeError("a claim is not a list of strings")
    return tuple(map(_text, claim))


def require_long_enough(secret: str) -> None:
    """Raises SettingError if a secret is so short that it could be guessed."""
    if len(secret.encode()) < SHORTEST_SECRET_BYTES:
        raise SettingError(f"Q2O_JWT_SECRET is too short: give at least {SHORTEST_SECRET_BYTES} random bytes")


class Authentication:
    """ASGI middleware that puts the caller into `request.state.principal`, or answers 401 before anything is parsed."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                principal = principal_of(Headers(scope=scope).get("authorization"), self._secret)
            except UnauthenticatedError as error:
                await problem_of_request(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(SIGNED_PATHS)
