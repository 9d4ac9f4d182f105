"""Who calls: a bearer token proves the caller, with tenant, roles and region; a buyer's also names the customers that they buy for.

The rule: every path needs a token unless it is listed here as open. The token proves who calls (`workers.http.tokens`); each path says which
roles it lets in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from domain.errors import Forbidden
from workers.http.problems import RequestError, problem_of_request

DOCUMENTATION_PATHS = ("/openapi.json", "/docs", "/docs/start.js", "/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css")
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
    """The caller, as the token proves. `subject` is the actor in every log row (`workers.http.actors`); `customers` are those that a buyer buys for."""

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


Authenticate = Callable[[str | None], Awaitable[Principal]]
"""Gives the caller behind an Authorization header. Raises UnauthenticatedError, KeysUnreadableError."""


class Authentication:
    """ASGI middleware that puts the caller into `request.state.principal`, or answers 401 before anything is parsed."""

    def __init__(self, app: ASGIApp, authenticate: Authenticate) -> None:
        self._app = app
        self._authenticate = authenticate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            try:
                principal = await self._authenticate(Headers(scope=scope).get("authorization"))
            except RequestError as error:
                await problem_of_request(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in DOCUMENTATION_PATHS or path.startswith(SIGNED_PATHS)
