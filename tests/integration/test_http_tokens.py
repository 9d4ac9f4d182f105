"""The edge with an identity provider: machines, rotation of keys while it runs, and outages of the provider."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import Any

import httpx
import pytest

from domain.offers.quotes import Quote
from tests.support import asking
from tests.support.http import Api, is_problem, new_quote, serving
from tests.support.identity_provider import AUDIENCE, CLIENT, CLIENT_SECRET, IdentityProvider, ec_key, identity_provider
from tests.support.offers import OWNER, Offers
from tests.support.waiting import eventually
from workers.http.auth import Role
from workers.http.signing_keys import REST, SigningKeys, loader
from workers.http.tokens import Tokens
from workers.runtime.token_settings import TokenSettings


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider(keys=[ec_key("first")]) as provider:
        yield provider


class Clock:
    """The time by which keys are read again."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def rest(self) -> None:
        """Let so much time pass that the provider may be asked again."""
        self.now += REST.total_seconds() + 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(provider: IdentityProvider, clock: Clock, offers: Offers) -> Iterator[Api]:
    """An edge that trusts the provider."""
    keys = SigningKeys(loader(provider.issuer, None), clock)
    tokens = Tokens(keys, TokenSettings(issuer=provider.issuer, audiences=(AUDIENCE,)))
    with serving(offers.engine, offers.tenant_id, authenticate=tokens) as api:
        yield api


def read(api: Api, token: str) -> httpx.Response:
    return api.client.get("/quotes", headers={"Authorization": f"Bearer {token}"})


def seller(api: Api, provider: IdentityProvider, **options: Any) -> str:
    """The token of a person who sells."""
    claims: dict[str, Any] = {"sub": OWNER, "tenant": str(api.tenant_id), "roles": [Role.SALES_AGENT], **options}
    return provider.token(**claims)


def test_a_machine_gets_a_token_by_its_own_credentials_and_acts_under_its_own_name(
    api: Api, provider: IdentityProvider, offers: Offers
) -> None:
    form = {"grant_type": "client_credentials", "scope": Role.SALES_AGENT, "tenant": str(api.tenant_id)}
    granted = asking.post(f"{provider.issuer}/token", data=form, auth=(CLIENT, CLIENT_SECRET)).json()
    headers = {"Authorization": f"{granted['token_type']} {granted['access_token']}", "Idempotency-Key": "1"}

    created = api.client.post("/quotes", json=new_quote(), headers=headers)

    assert created.status_code == 201, created.text
    with offers.uow() as uow:
        assert uow.read(Quote, created.json()["quoteId"]).owner_user_id == f"client:{CLIENT}"


def test_keys_are_rotated_while_the_edge_runs(api: Api, provider: IdentityProvider, clock: Clock) -> None:
    old = seller(api, provider)
    assert read(api, old).status_code == 200

    provider.keys = [ec_key("second"), ec_key("first")]
    clock.rest()
    assert (read(api, seller(api, provider)).status_code, read(api, old).status_code) == (200, 200)

    provider.keys = [ec_key("third"), ec_key("second")]
    clock.rest()
    assert read(api, seller(api, provider)).status_code == 200
    is_problem(read(api, old), 401, "UNAUTHENTICATED")


def test_an_expired_token_is_refused_with_its_reason(api: Api, provider: IdentityProvider) -> None:
    expired = seller(api, provider, iat=int(time()) - 900, exp=int(time()) - 600)

    assert "expired" in is_problem(read(api, expired), 401, "UNAUTHENTICATED")["detail"]


def test_known_callers_are_served_while_the_identity_provider_is_down(api: Api, provider: IdentityProvider, clock: Clock) -> None:
    assert read(api, seller(api, provider)).status_code == 200

    provider.is_down = True
    clock.now += 86_400

    assert read(api, seller(api, provider)).status_code == 200
    is_problem(read(api, seller(api, provider, key=ec_key("unknown"))), 401, "UNAUTHENTICATED")


def test_an_edge_that_knows_no_key_yet_asks_for_another_try(api: Api, provider: IdentityProvider, clock: Clock) -> None:
    provider.is_down = True

    refused = read(api, seller(api, provider))

    assert is_problem(refused, 503, "SIGNING_KEYS_UNAVAILABLE")["safeUserAction"] == "RETRY_WITH_SAME_KEY"
    assert refused.headers["Retry-After"] == "10"

    provider.is_down = False
    clock.rest()
    assert read(api, seller(api, provider)).status_code == 200


def test_nobody_else_waits_while_keys_are_fetched(api: Api, provider: IdentityProvider, clock: Clock) -> None:
    """Kills: fetching in the event loop."""
    assert read(api, seller(api, provider)).status_code == 200
    asked = len(provider.asked)
    provider.answers.clear()
    clock.rest()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(read, api, seller(api, provider, key=ec_key("unknown")))
        try:
            eventually(lambda: len(provider.asked) > asked, "the keys are asked for")
            assert read(api, seller(api, provider)).status_code == 200
            assert not waiting.done()
        finally:
            provider.answers.set()
        is_problem(waiting.result(), 401, "UNAUTHENTICATED")
