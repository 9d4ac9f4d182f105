"""The public keys that verify tokens, by `kid`, as the identity provider publishes them (JWKS, RFC 7517).

The rules: the key decides the algorithm, never the token. A set is read in a thread, so that no other request waits; an unknown `kid` has it
read again, at most once in `REST`, so that strangers cannot keep us asking. While the identity provider is down, known keys stay valid.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import structlog
from jwt import PyJWK
from jwt.exceptions import PyJWTError

from workers.providers.budget import BudgetTransport, CallBudget

BUDGET = CallBudget(connect=timedelta(seconds=3), total=timedelta(seconds=5), response_bytes=256 * 1024)
REST = timedelta(seconds=10)
# A key that the identity provider withdraws is refused after this time, as long as the provider responds.
FRESH = timedelta(minutes=5)
# How long a request waits for a newer set when it could be verified with the known one.
PATIENCE = timedelta(seconds=1)
DISCOVERY = "/.well-known/openid-configuration"

# (kty, crv) -> the one algorithm that such a key verifies, and the members that make it. Others, also private ones, are left out.
_ALGORITHMS: Mapping[tuple[str, str | None], tuple[str, tuple[str, ...]]] = {
    ("RSA", None): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("crv", "x")),
}
UNREADABLE = (OSError, ValueError, RecursionError, httpx.HTTPError, httpx.InvalidURL)
_log = structlog.get_logger()


class KeySetError(ValueError):
    """What was read is not a set of keys, or not the identity provider's."""


class KeysUnavailableError(Exception):
    """No key has been read yet, and none can be read now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationKey:
    """A key, with the only algorithm that a token signed with it may have."""

    algorithm: str
    key: Any


Keys = Mapping[str | None, VerificationKey]
Load = Callable[[], bytes]


class SigningKeys:
    """The keys of one identity provider, for one event loop. `load` reads the set; it is called in a thread."""

    def __init__(self, load: Load, clock: Callable[[], float] = time.monotonic) -> None:
        self._load = load
        self._clock = clock
        self._keys: Keys = {}
        self._read_at = self._asked_at = float("-inf")
        self._has_failed = False
        self._reading: asyncio.Task[None] | None = None

    async def find(self, kid: str | None) -> VerificationKey | None:
        """The key with this id, if the identity provider publishes it. Raises KeysUnavailableError."""
        key, now = self._pick(kid), self._clock()
        is_stale = now - self._read_at > FRESH.total_seconds()
        if (key is None or is_stale) and now - self._asked_at > REST.total_seconds():
            self._asked_at = now
            self._reading = asyncio.create_task(self._read())
        must_wait = key is None or (is_stale and not self._has_failed)
        if must_wait and self._reading is not None and not self._reading.done():
            await asyncio.wait({self._reading}, timeout=None if key is None else PATIENCE.total_seconds())
            key = self._pick(kid)
        if not self._keys:
            raise KeysUnavailableError
        return key

    def require(self) -> None:
        """Read the set here and now, unless one is known. Raises KeysUnavailableError, which says why."""
        if self._keys:
            return
        try:
            self._keys = keys_in(self._load())
        except UNREADABLE as error:
            raise KeysUnavailableError(
                f"the keys of the identity provider cannot be read ({type(error).__name__}: {error})"
            ) from error

    def _pick(self, kid: str | None) -> VerificationKey | None:
        """The key of this id; without an id, the only key that there is."""
        if kid is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(kid)

    async def _read(self) -> None:
        try:
            self._keys = keys_in(await asyncio.to_thread(self._load))
        except UNREADABLE as error:
            self._has_failed = True
            _log.warning("signing_keys_unreadable", reason=f"{type(error).__name__}: {error}", known=len(self._keys))
        else:
            self._read_at, self._has_failed = self._asked_at, False
            _log.info("signing_keys_read", keys=len(self._keys))


def keys_in(document: bytes) -> Keys:
    """The keys of a set that we can use. Raises KeySetError when there is none."""
    rows = _members(document).get("keys")
    found = {} if not isinstance(rows, list) else {row.get("kid"): key for row in reversed(rows) if (key := _usable(row))}
    if not found:
        raise KeySetError("no key for RS256, ES256 or EdDSA is in the set")
    return found


def _usable(row: Any) -> VerificationKey | None:
    if not isinstance(row, dict) or not isinstance(row.get("kid"), str | None) or row.get("use", "sig") != "sig":
        return None
    kind, curve = row.get("kty"), row.get("crv")
    algorithm, members = _ALGORITHMS.get((str(kind), curve if isinstance(curve, str) else None), (None, ()))
    if algorithm is None or row.get("alg", algorithm) != algorithm:
        return None
    try:
        key = PyJWK({"kty": kind, **{name: row.get(name) for name in members}}, algorithm)
    except PyJWTError:
        return None
    is_weak = key.Algorithm.check_key_length(key.key) is not None
    return None if is_weak else VerificationKey(algorithm=algorithm, key=key.key)


def is_file(key_set: str) -> bool:
    """Whether a key set is named by a file, and not by an address."""
    return "://" not in key_set


def loader(issuer: str, key_set: str | None) -> Load:
    """How the keys of an issuer are read: from a file, from an address, or from where its discovery document says (None)."""
    if key_set is not None and is_file(key_set):
        return Path(key_set).read_bytes
    client = httpx.Client(
        transport=BudgetTransport(BUDGET, httpx.create_ssl_context()),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    )
    return lambda: _get(client, key_set or _discovered(client, issuer))


def _discovered(client: httpx.Client, issuer: str) -> str:
    """The address of the issuer's keys (OpenID Connect Discovery 1.0, section 4)."""
    found = _members(_get(client, issuer.rstrip("/") + DISCOVERY))
    if found.get("issuer") != issuer:
        raise KeySetError(f"the discovery document is that of another issuer: {str(found.get('issuer'))[:200]}")
    address = str(found.get("jwks_uri"))
    if issuer.startswith("https://") and not address.startswith("https://"):
        raise KeySetError("the discovery document names keys at an address without https://")
    return address


def _get(client: httpx.Client, address: str) -> bytes:
    response = client.get(address)
    if response.status_code != httpx.codes.OK:
        raise KeySetError(f"{address} responded with {response.status_code}")
    return response.content


def _members(document: bytes) -> dict[str, Any]:
    found = json.loads(document)
    if not isinstance(found, dict):
        raise KeySetError("it is not a JSON object")
    return found
