"""The keys of an identity provider: which are used, when they are read again, and what holds while it is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.identity_provider import IdentityProvider, Key, ec_key, ed_key, identity_provider, rsa_key
from workers.http import signing_keys
from workers.http.signing_keys import FRESH, REST, KeySetError, KeysUnavailableError, SigningKeys, keys_in, loader

LATER, MUCH_LATER = REST.total_seconds() + 1, FRESH.total_seconds() + 1
JUNK = b"<html>"


class Source:
    """What an identity provider would publish, and how often it was asked."""

    def __init__(self, *keys: Key) -> None:
        self.now = 0.0
        self.asked = 0
        self.content: bytes | Exception = b""
        self.answers = Event()
        self.answers.set()
        self.publish(*keys)

    def publish(self, *keys: Key) -> None:
        self.content = json.dumps({"keys": [dict(key.jwk) for key in keys]}).encode()

    def load(self) -> bytes:
        self.asked += 1
        self.answers.wait()
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def signing_keys(self) -> SigningKeys:
        return SigningKeys(self.load, clock=lambda: self.now)


FIRST, SECOND = ec_key("first"), ec_key("second")


def test_many_requests_read_the_keys_once() -> None:
    source = Source(FIRST)

    async def ask() -> list[Any]:
        keys = source.signing_keys()
        return await asyncio.gather(*[keys.find("first") for _ in range(20)])

    assert None not in asyncio.run(ask())
    assert source.asked == 1


def test_a_new_key_is_found_as_soon_as_a_token_names_it() -> None:
    source = Source(FIRST)

    async def ask() -> None:
        keys = source.signing_keys()
        assert await keys.find("first") is not None
        source.publish(SECOND, FIRST)
        source.now = LATER
        assert await keys.find("second") is not None
        assert await keys.find("first") is not None

    asyncio.run(ask())
    assert source.asked == 2


def test_strangers_cannot_make_us_ask_for_ever() -> None:
    source = Source(FIRST)

    async def ask() -> None:
        keys = source.signing_keys()
        for number in range(50):
            assert await keys.find(f"invented-{number}") is None
        source.now = LATER
        assert await keys.find("invented") is None

    asyncio.run(ask())
    assert source.asked == 2


def test_a_key_that_was_withdrawn_is_refused_when_the_set_is_no_longer_fresh() -> None:
    source = Source(FIRST, SECOND)

    async def ask() -> None:
        keys = source.signing_keys()
        assert await keys.find("first") is not None
        source.publish(SECOND)
        source.now = MUCH_LATER
        assert set(await asyncio.gather(keys.find("first"), keys.find("first"))) == {None}

    asyncio.run(ask())


@pytest.mark.parametrize("outage", [OSError("down"), JUNK, b"{}", b'{"keys": []}', b"[" * 100_000])
def test_known_keys_hold_while_the_identity_provider_is_down(outage: bytes | Exception) -> None:
    source = Source(FIRST)

    async def ask() -> None:
        keys = source.signing_keys()
        assert await keys.find("first") is not None
        source.content = outage
        for after in range(1, 4):
            source.now = after * MUCH_LATER
            assert await keys.find("first") is not None
            assert await keys.find("unknown") is None

    with capture_logs() as logs:
        asyncio.run(ask())
    assert [log["event"] for log in logs].count("signing_keys_unreadable") == 3


def test_a_provider_that_keeps_us_waiting_does_not_keep_known_callers_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "PATIENCE", signing_keys.PATIENCE * 0)
    source = Source(FIRST)

    async def ask() -> None:
        keys = source.signing_keys()
        assert await keys.find("first") is not None
        source.answers.clear()
        source.now = MUCH_LATER
        try:
            assert await keys.find("first") is not None
        finally:
            source.answers.set()

    asyncio.run(ask())


def test_without_any_key_nobody_is_told_that_a_token_is_wrong() -> None:
    source = Source()
    source.content = OSError("down")

    async def ask() -> None:
        keys = source.signing_keys()
        for _ in range(3):
            with pytest.raises(KeysUnavailableError):
                await keys.find("first")
        source.publish(FIRST)
        source.now = LATER
        assert await keys.find("first") is not None

    asyncio.run(ask())
    assert source.asked == 2


def test_a_token_without_a_key_id_belongs_to_the_only_key() -> None:
    async def ask(source: Source) -> Any:
        return await source.signing_keys().find(None)

    assert asyncio.run(ask(Source(FIRST))) is not None
    assert asyncio.run(ask(Source(FIRST, SECOND))) is None


class TestWhichKeysAreUsed:
    @pytest.mark.parametrize(
        "changes",
        [
            {"use": "enc"},
            {"alg": "RS512"},
            {"alg": "RSA-OAEP"},
            {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"},
            {"kty": "oct", "k": "c2VjcmV0", "alg": None},
            {"n": None},
            {"n": 7},
            {"kid": 7},
            {"kty": ["RSA"]},
            dict(rsa_key("short", 1024).jwk),
        ],
    )
    def test_a_key_that_must_not_verify_tokens_is_left_out(self, changes: dict[str, Any]) -> None:
        odd = {name: value for name, value in {**rsa_key("rsa").jwk, **changes}.items() if value is not None or name == "n"}

        found = keys_in(json.dumps({"keys": [odd, "text", dict(ed_key("ed").jwk)]}).encode())

        assert list(found) == ["ed"]

    @pytest.mark.parametrize("broken", [{"x": None}, {"x": 7}, {"x": "AAAA"}, {"x": "not base64!", "y": "*"}])
    def test_a_broken_key_does_not_take_the_others_with_it(self, broken: dict[str, Any]) -> None:
        odd = {**ec_key("ec").jwk, **broken}

        assert list(keys_in(json.dumps({"keys": [odd, dict(ed_key("ed").jwk)]}).encode())) == ["ed"]

    def test_a_key_without_use_and_algorithm_is_used_with_the_one_of_its_kind(self) -> None:
        bare = {name: value for name, value in rsa_key("rsa").jwk.items() if name not in {"use", "alg"}}

        assert keys_in(json.dumps({"keys": [bare]}).encode())["rsa"].algorithm == "RS256"

    def test_of_two_keys_with_one_name_the_first_counts(self) -> None:
        same = {**ed_key("ed").jwk, "kid": "rsa"}

        assert keys_in(json.dumps({"keys": [dict(rsa_key("rsa").jwk), same]}).encode())["rsa"].algorithm == "RS256"


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with identity_provider(keys=[FIRST]) as provider:
        yield provider


class TestWhereKeysComeFrom:
    def test_the_discovery_document_names_the_address(self, provider: IdentityProvider) -> None:
        assert list(keys_in(loader(provider.issuer, None)())) == ["first"]
        assert provider.asked == ["/.well-known/openid-configuration", "/keys"]

    def test_an_address_is_asked_itself(self, provider: IdentityProvider) -> None:
        assert list(keys_in(loader("https://login.example", f"{provider.issuer}/keys")())) == ["first"]
        assert provider.asked == ["/keys"]

    def test_a_file_is_read_as_it_is_now(self, tmp_path: Path) -> None:
        load = loader("https://login.example", str(tmp_path / "keys.json"))
        for key in (FIRST, SECOND):
            (tmp_path / "keys.json").write_text(json.dumps({"keys": [dict(key.jwk)]}))
            assert list(keys_in(load())) == [key.kid]

    def test_the_discovery_document_of_another_issuer_is_refused(self, provider: IdentityProvider) -> None:
        provider.discovery = {"issuer": "https://other.example"}

        with pytest.raises(KeySetError, match=r"another issuer: https://other\.example"):
            loader(provider.issuer, None)()

    def test_keys_are_not_fetched_without_encryption_when_the_issuer_has_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        document = json.dumps({"issuer": "https://login.example", "jwks_uri": "http://login.example/keys"}).encode()
        monkeypatch.setattr(signing_keys, "_get", lambda *_: document)

        with pytest.raises(KeySetError, match="without https"):
            loader("https://login.example", None)()

    def test_an_answer_that_is_too_long_is_not_read(self, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch) -> None:
        endless = json.dumps(provider.key_set()).encode() + b" " * signing_keys.BUDGET.response_bytes
        monkeypatch.setattr(provider, "answer", lambda *_: (200, endless))

        async def ask() -> None:
            with pytest.raises(KeysUnavailableError):
                await SigningKeys(loader(provider.issuer, f"{provider.issuer}/keys")).find("first")

        asyncio.run(ask())

    def test_an_answer_with_another_status_is_no_key_set(self, provider: IdentityProvider) -> None:
        provider.is_down = True

        with pytest.raises(KeySetError, match="responded with 503"):
            loader(provider.issuer, None)()
