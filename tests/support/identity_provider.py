"""An OpenID Connect server for tests: discovery, keys and a token endpoint over HTTP on loopback, and tokens signed as the big ones sign them.

It behaves as OpenID Connect Discovery 1.0, RFC 7517 (JWKS) and RFC 6749 (client credentials) say, and it can rotate its keys, go down, and
keep a caller waiting.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from threading import Event
from time import time
from typing import Any
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from tests.support.answering import Reply, Request, answering

AUDIENCE = "q2o-api"
CLIENT, CLIENT_SECRET = "billing", "the secret of billing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key pair of the server: `kid` and `algorithm` name it, `jwk` is its public half."""

    kid: str
    algorithm: str
    private: Any
    jwk: Mapping[str, Any]


@cache
def rsa_key(kid: str, bits: int = 2048) -> Key:
    private = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return _key(kid, "RS256", private, RSAAlgorithm.to_jwk(private.public_key(), as_dict=True))


@cache
def ec_key(kid: str) -> Key:
    private = ec.generate_private_key(ec.SECP256R1())
    return _key(kid, "ES256", private, ECAlgorithm.to_jwk(private.public_key(), as_dict=True))


@cache
def ed_key(kid: str) -> Key:
    private = ed25519.Ed25519PrivateKey.generate()
    return _key(kid, "EdDSA", private, OKPAlgorithm.to_jwk(private.public_key(), as_dict=True))


def _key(kid: str, algorithm: str, private: Any, public: Mapping[str, Any]) -> Key:
    members = {name: value for name, value in public.items() if name != "key_ops"}
    return Key(kid=kid, algorithm=algorithm, private=private, jwk={**members, "kid": kid, "use": "sig", "alg": algorithm})


@dataclass(kw_only=True)
class IdentityProvider:
    """The server. `keys` are those that it publishes; the first one signs. `asked` counts the requests by path."""

    issuer: str = ""
    keys: list[Key] = field(default_factory=lambda: [rsa_key("first")])
    asked: list[str] = field(default_factory=list)
    is_down: bool = False
    answers: Event = field(default_factory=Event)
    """While it is clear, requests wait."""
    discovery: dict[str, Any] = field(default_factory=dict)
    """Members that replace those of the discovery document."""

    def __post_init__(self) -> None:
        self.answers.set()

    def token(self, key: Key | None = None, *, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """An access token for the API; `claims` are added or replaced, and left out when they are None."""
        signing, now = key or self.keys[0], int(time())
        common = {"iss": self.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300}
        all_claims = {name: value for name, value in {**common, **claims}.items() if value is not None}
        return jwt.encode(all_claims, signing.private, signing.algorithm, {"kid": signing.kid, **(headers or {})})

    def key_set(self) -> dict[str, Any]:
        return {"keys": [dict(key.jwk) for key in self.keys]}

    def answer(self, path: str, form: Mapping[str, str], authorization: str | None) -> tuple[int, Any]:
        """The status and the JSON of an answer."""
        if path == "/.well-known/openid-configuration":
            addresses = {"jwks_uri": f"{self.issuer}/keys", "token_endpoint": f"{self.issuer}/token"}
            return 200, {"issuer": self.issuer, **addresses, "grant_types_supported": ["client_credentials"], **self.discovery}
        if path == "/keys":
            return 200, self.key_set()
        if path == "/token":
            return self._grant(form, authorization)
        return 404, {}

    def _grant(self, form: Mapping[str, str], authorization: str | None) -> tuple[int, Any]:
        if authorization != "Basic " + base64.b64encode(f"{CLIENT}:{CLIENT_SECRET}".encode()).decode():
            return 401, {"error": "invalid_client"}
        if form.get("grant_type") != "client_credentials":
            return 400, {"error": "unsupported_grant_type"}
        scope = form.get("scope", "")
        token = self.token(sub=CLIENT, client_id=CLIENT, scope=scope, tenant=form["tenant"])
        return 200, {"access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope}


@contextmanager
def identity_provider(**options: Any) -> Iterator[IdentityProvider]:
    """Run the server for the length of the block."""
    provider = IdentityProvider(**options)

    def answer(request: Request) -> Reply:
        provider.asked.append(request.path)
        provider.answers.wait()
        form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        status, found = (503, {}) if provider.is_down else provider.answer(request.path, form, request.headers.get("Authorization"))
        body = found if isinstance(found, bytes) else json.dumps(found).encode()
        return Reply(status=status, body=body, headers={"Content-Type": "application/json"})

    with answering(answer) as provider.issuer:
        try:
            yield provider
        finally:
            provider.answers.set()
