"""Which tokens are accepted: by their key, issuer, audience and time, and by the names in their claims."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from time import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.identity_provider import AUDIENCE, IdentityProvider, Key, rsa_key
from tests.support.tokens import CALLER, ISSUER, TENANT, caller, provider, refusal, settings
from workers.http import actors

__all__ = ["provider"]

LEEWAY = 10


@pytest.mark.parametrize("number", range(3), ids=["RS256", "ES256", "EdDSA"])
def test_a_token_of_every_algorithm_is_accepted(provider: IdentityProvider, number: int) -> None:
    found = caller(provider, provider.token(provider.keys[number], **CALLER))

    assert (found.subject, found.tenant_id, list(found.roles)) == ("rina", TENANT, ["approverRsm"])


class TestTheKeyDecidesTheAlgorithm:
    def test_a_token_that_is_signed_with_the_public_key_as_a_secret_is_refused(self, provider: IdentityProvider) -> None:
        public = provider.keys[0].private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        claims = jwt.decode(provider.token(**CALLER), options={"verify_signature": False})

        forged = signed_by_hand(claims, {"alg": "HS256", "kid": "rsa"}, lambda text: hmac.digest(public, text, hashlib.sha256))

        assert "not one of ours" in refusal(provider, forged)

    @pytest.mark.parametrize("name", ["none", "None", "HS256", "RS512", "ES256"])
    def test_a_token_without_a_signature_is_refused_whatever_it_says(self, provider: IdentityProvider, name: str) -> None:
        claims = jwt.decode(provider.token(**CALLER), options={"verify_signature": False})

        assert "not one of ours" in refusal(provider, signed_by_hand(claims, {"alg": name, "kid": "rsa"}, lambda _: b""))

    def test_an_algorithm_that_the_same_key_could_verify_is_refused(self, provider: IdentityProvider) -> None:
        key = provider.keys[0]
        other = Key(kid=key.kid, algorithm="PS256", private=key.private, jwk=key.jwk)

        assert "not one of ours" in refusal(provider, provider.token(other, **CALLER))

    def test_a_key_that_the_token_brings_itself_is_not_looked_at(self, provider: IdentityProvider) -> None:
        stranger = rsa_key("stranger")
        headers = {"jwk": dict(stranger.jwk), "jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/keys", "x5c": ["x"]}

        for kid in ("stranger", "rsa"):
            assert "not one of ours" in refusal(provider, provider.token(stranger, headers={**headers, "kid": kid}, **CALLER))

    def test_a_token_of_another_key_under_a_known_name_is_refused(self, provider: IdentityProvider) -> None:
        assert "not one of ours" in refusal(provider, provider.token(rsa_key("stranger"), headers={"kid": "rsa"}, **CALLER))


class TestWhoseAndForWhom:
    @pytest.mark.parametrize("issuer", ["https://login.example/", "https://other.example"])
    def test_the_token_of_another_issuer_is_refused(self, provider: IdentityProvider, issuer: str) -> None:
        assert f"another issuer: get one from {ISSUER}" in refusal(provider, provider.token(iss=issuer, **CALLER))

    @pytest.mark.parametrize("audience", ["other-api", ["other-api"], AUDIENCE.upper()])
    def test_a_token_for_another_service_is_refused(self, provider: IdentityProvider, audience: Any) -> None:
        assert f"get one for the audience {AUDIENCE}" in refusal(provider, provider.token(aud=audience, **CALLER))

    def test_one_of_several_audiences_is_enough(self, provider: IdentityProvider) -> None:
        token = provider.token(aud=["account", "second"], **CALLER)

        assert caller(provider, token, jwt_audience=f"{AUDIENCE}, second").subject == "rina"

    @pytest.mark.parametrize("claim", ["iss", "aud", "exp", "iat"])
    def test_a_token_without_a_claim_that_limits_it_is_refused(self, provider: IdentityProvider, claim: str) -> None:
        assert f"has no claim {claim}" in refusal(provider, provider.token(**{**CALLER, claim: None}))

    @pytest.mark.parametrize("kind", ["logout+jwt", "secevent+jwt", 7])
    def test_what_is_no_access_token_is_refused(self, provider: IdentityProvider, kind: Any) -> None:
        assert "not one of ours" in refusal(provider, provider.token(headers={"typ": kind}, **CALLER))

    def test_an_access_token_by_rfc_9068_is_accepted(self, provider: IdentityProvider) -> None:
        assert caller(provider, provider.token(headers={"typ": "at+jwt"}, **CALLER)).subject == "rina"


class TestTime:
    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    def test_a_clock_that_is_a_little_ahead_is_allowed_for(self, provider: IdentityProvider, claim: str) -> None:
        assert caller(provider, provider.token(**{**CALLER, claim: int(time()) + LEEWAY - 5})).subject == "rina"

    @pytest.mark.parametrize("claim", ["iat", "nbf"])
    def test_a_token_from_the_future_is_refused_with_its_reason(self, provider: IdentityProvider, claim: str) -> None:
        sentence = refusal(provider, provider.token(**{**CALLER, claim: int(time()) + LEEWAY + 60}))

        assert "from the future" in sentence
        assert "10 s" in sentence
        assert "clock" in sentence

    def test_a_token_that_has_just_expired_is_allowed_for(self, provider: IdentityProvider) -> None:
        assert caller(provider, provider.token(**CALLER, exp=int(time()) - LEEWAY + 5)).subject == "rina"

    def test_an_expired_token_is_refused(self, provider: IdentityProvider) -> None:
        assert "has expired" in refusal(provider, provider.token(**CALLER, exp=int(time()) - LEEWAY - 60))

    def test_the_leeway_is_a_setting(self, provider: IdentityProvider) -> None:
        token = provider.token(**CALLER, exp=int(time()) - 60)

        assert caller(provider, token, jwt_leeway_seconds="120").subject == "rina"

    def test_a_token_that_lives_too_long_is_refused(self, provider: IdentityProvider) -> None:
        now = int(time())

        assert "more than 3600 s" in refusal(
            provider, provider.token(**CALLER, iat=now, exp=now + 3601), jwt_longest_seconds="3600"
        )
        assert caller(provider, provider.token(**CALLER, iat=now, exp=now + 3600), jwt_longest_seconds="3600").subject == "rina"

    @pytest.mark.parametrize("moment", [float("inf"), "soon", {}])
    def test_a_moment_that_is_none_is_refused(self, provider: IdentityProvider, moment: Any) -> None:
        assert "not one of ours" in refusal(provider, provider.token(**CALLER, iat=moment))


class TestWhoCannotBe:
    @pytest.mark.parametrize(
        "subject",
        [
            *("dispatch", "inbox", "reconciliation", "Reconciliation", "policy", "demo", "sandbox"),
            *("worker:q2o-pod-1", "provider:sandbox", "client:billing", "q2o-pod-0a1b2c3d"),
        ],
    )
    def test_nobody_can_act_under_a_name_of_the_product(self, provider: IdentityProvider, subject: str) -> None:
        assert "part of the product" in refusal(provider, provider.token(**{**CALLER, "sub": subject}))

    @pytest.mark.parametrize("subject", ["", " rina", "rina ", "r" * 201, "rınа"])
    def test_a_subject_is_short_and_has_only_visible_ascii(self, provider: IdentityProvider, subject: str) -> None:
        assert refusal(provider, provider.token(**{**CALLER, "sub": subject}))

    @pytest.mark.parametrize("claim", ["sub", "region", "customers", "roles"])
    @pytest.mark.parametrize("sign", ["\0", "\n", "\x1b", "\u202e", "\u200b", "\u2028"])
    def test_no_claim_has_control_or_bidirectional_characters(self, provider: IdentityProvider, claim: str, sign: str) -> None:
        text = f"a{sign}b"
        token = provider.token(**{**CALLER, claim: [text] if claim in {"customers", "roles"} else text})

        assert refusal(provider, token)

    def test_a_text_that_is_too_long_to_be_a_name_is_refused(self, provider: IdentityProvider) -> None:
        assert caller(provider, provider.token(**CALLER, region="r" * 200)).region == "r" * 200
        assert "malformed" in refusal(provider, provider.token(**CALLER, region="r" * 201))

    @pytest.mark.parametrize("name", ["person", "machine"])
    def test_no_name_of_an_actor_has_more_than_two_hundred_characters(self, name: str) -> None:
        make = getattr(actors, name)
        longest = 200 - len(make("r")) + 1
        assert len(make("r" * longest)) == 200

        with pytest.raises(actors.UnusableNameError):
            make("r" * (longest + 1))

    @pytest.mark.parametrize("subject", ["rina", "Rina Sari", "rina@example.com", "auth0|5f7c", "x" * 200])
    def test_usual_subjects_are_accepted(self, provider: IdentityProvider, subject: str) -> None:
        assert caller(provider, provider.token(**{**CALLER, "sub": subject})).subject == subject


def test_a_header_that_is_nested_without_end_is_refused(provider: IdentityProvider) -> None:
    header = base64.urlsafe_b64encode(b"[" * 40_000).decode().rstrip("=")

    assert "not one of ours" in refusal(provider, f"{header}.e30.e30")


def test_the_longest_lifetime_is_a_day_unless_it_is_set() -> None:
    assert settings().longest == timedelta(hours=24)


def signed_by_hand(claims: Mapping[str, Any], header: Mapping[str, Any], sign: Any) -> str:
    """A token that no library would make."""
    text = b".".join(_encoded(json.dumps(part).encode()) for part in (header, claims))
    return b".".join([text, _encoded(sign(text))]).decode()


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")
