"""Whom a token names, under the settings of an identity provider."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from tests.support.identity_provider import AUDIENCE, IdentityProvider, ec_key, ed_key, rsa_key
from workers.http.auth import Principal
from workers.http.problems import UnauthenticatedError
from workers.http.signing_keys import SigningKeys
from workers.http.tokens import Tokens
from workers.runtime.environment import Environment
from workers.runtime.token_settings import TokenSettings

TENANT = UUID("6f1f7d4e-2a41-4c0e-9d5c-0c3f6b7a1e21")
ISSUER = "https://login.example"
CALLER: dict[str, Any] = {"sub": "rina", "tenant": str(TENANT), "roles": ["approverRsm"]}


@pytest.fixture
def provider() -> IdentityProvider:
    """An identity provider whose keys are read without a network."""
    return IdentityProvider(issuer=ISSUER, keys=[rsa_key("rsa"), ec_key("ec"), ed_key("ed")])


def settings(**variables: str) -> TokenSettings:
    given = {f"Q2O_{name.upper()}": value for name, value in variables.items()}
    return TokenSettings.of(Environment({"Q2O_JWT_ISSUER": ISSUER, "Q2O_JWT_AUDIENCE": AUDIENCE, **given}))


def caller(provider: IdentityProvider, token: str, **variables: str) -> Principal:
    """The caller that a token proves, under these settings."""
    keys = SigningKeys(lambda: json.dumps(provider.key_set()).encode())
    return asyncio.run(Tokens(keys, settings(**variables))(f"Bearer {token}"))


def refusal(provider: IdentityProvider, token: str, **variables: str) -> str:
    """The sentence with which a token is refused."""
    with pytest.raises(UnauthenticatedError) as refused:
        caller(provider, token, **variables)
    return str(refused.value.detail)
