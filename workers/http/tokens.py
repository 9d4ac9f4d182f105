"""Bearer tokens (JWT): whether one is genuine, for us and still valid, and which caller its claims name.

The rules: the key decides the algorithm, and only its `kid` is taken from an unverified token; a key that the token itself brings or names an
address of (`jwk`, `jku`, `x5u`, `x5c`) is never looked at. Scopes say what a client may do, so they give roles to a machine, which is nobody
but its client, and never to a person, whose client would raise them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import jwt

from domain.texts import is_identifier
from workers.http import actors
from workers.http.auth import Principal, Role
from workers.http.problems import KeysUnreadableError, UnauthenticatedError
from workers.http.signing_keys import KeysUnavailableError, SigningKeys, VerificationKey, is_file, loader
from workers.runtime.environment import SettingError
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.setting_kinds import HS256_SECRET
from workers.runtime.token_settings import TokenSettings

# An access token and nothing else that an identity provider signs, such as its logout token (RFC 8725, 3.11; RFC 9068, 2.1).
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
CLIENT_CLAIMS = ("client_id", "azp", "appid")


class _KeyRing(Protocol):
    async def find(self, kid: str | None) -> VerificationKey | None: ...

    def require(self) -> None: ...


class Tokens:
    """Gives the caller behind an Authorization header: `await tokens(header)`. Raises UnauthenticatedError, KeysUnreadableError."""

    def __init__(self, keys: _KeyRing, rules: TokenSettings) -> None:
        if unknown := set((rules.role_names or {}).values()) - set(Role):
            raise SettingError(
                f"Q2O_JWT_ROLE_NAMES names no roles of ours: {', '.join(sorted(unknown))}; there are {', '.join(Role)}"
            )
        self._keys = keys
        self._rules = rules
        self._role_names = rules.role_names or {role: role for role in Role}

    def require_keys(self) -> None:
        """Read the keys, unless some are known: known ones stay valid. Raises KeysUnavailableError."""
        self._keys.require()

    async def __call__(self, authorization: str | None) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise UnauthenticatedError("Send a bearer token in the Authorization header.")
        try:
            header = jwt.get_unverified_header(token.strip())
            key = await self._keys.find(header.get("kid"))
            return self._principal(self._verified(token.strip(), header, key))
        except KeysUnavailableError as error:
            raise KeysUnreadableError from error
        except (jwt.InvalidTokenError, TypeError, ValueError) as error:
            raise UnauthenticatedError(self._reason(error)) from error
        except actors.UnusableNameError as error:
            raise UnauthenticatedError(str(error)) from error

    def _verified(self, token: str, header: Mapping[str, Any], key: VerificationKey | None) -> dict[str, Any]:
        if key is None or str(header.get("typ", "JWT")).lower() not in TYPES:
            raise jwt.InvalidTokenError
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            [key.algorithm],
            options={"require": ["exp", "iat"]},
            issuer=self._rules.issuer,
            audience=self._rules.audiences or None,
            leeway=self._rules.leeway,
        )
        if int(claims["exp"]) - int(claims["iat"]) > self._rules.longest.total_seconds():
            raise _LivesTooLongError
        return claims

    def _reason(self, error: Exception) -> str:
        rules = self._rules
        match error:
            case jwt.ExpiredSignatureError():
                reason = "has expired: get a new one."
            case jwt.ImmatureSignatureError():
                reason = (
                    f"is from the future: its iat or nbf is more than {rules.leeway.total_seconds():g} s ahead of our clock. "
                    "Try again in a moment; if that does not help, correct the clock of the issuer or of this service."
                )
            case jwt.InvalidIssuerError():
                reason = f"is of another issuer: get one from {rules.issuer}."
            case jwt.InvalidAudienceError():
                reason = f"is not for this service: get one for the audience {', '.join(rules.audiences)}."
            case jwt.MissingRequiredClaimError():
                reason = f"has no claim {error.claim}: get one that has it."
            case _LivesTooLongError():
                reason = f"is valid for more than {rules.longest.total_seconds():g} s: get one that is valid for a shorter time."
            case _:
                reason = "is not one of ours, or a claim is missing or malformed: get a new one."
        return f"The token {reason}"

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        names, client = self._rules.claims, _client_of(claims)
        is_machine = self._is_machine(claims, client)
        theirs = {role for path in names.roles for role in _texts(_at(claims, path) or [])}
        if is_machine:
            theirs |= {scope for path in names.scopes for scope in _scopes(_at(claims, path) or "")}
        return Principal(
            subject=actors.machine(client or "") if is_machine else actors.person(_text(_at(claims, names.subject))),
            tenant_id=UUID(_text(_at(claims, names.tenant))),
            roles=sorted({self._role_names[name] for name in theirs & self._role_names.keys()}),
            region=_text(_at(claims, names.region) or ""),
            customers=frozenset(_texts(_at(claims, names.customers) or [])),
        )

    def _is_machine(self, claims: Mapping[str, Any], client: str | None) -> bool:
        """Whether the token was issued to a client for itself (client credentials), and not to a person."""
        if not self._rules.machine_mark:
            return client is not None and claims.get("sub") == client  # RFC 9068, section 2.2
        claim, _, value = self._rules.machine_mark.partition("=")
        found = _at(claims, claim)
        return found == value if value else found is not None


class _LivesTooLongError(jwt.InvalidTokenError):
    """From issue to expiry the token lives longer than we allow."""


class _SharedSecret:
    """The one key of the local suite (HS256)."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def find(self, _kid: str | None) -> VerificationKey:
        return VerificationKey(algorithm="HS256", key=reveal(self._secret))

    def require(self) -> None:
        """Nothing is read: the secret is here."""


def tokens_of(settings: TokenSettings) -> Tokens:
    """Read and verify tokens by these settings. Raises SettingError."""
    if settings.secret is not None:
        if fault := HS256_SECRET.fault(reveal(settings.secret)):
            raise SettingError(f"Q2O_JWT_SECRET {fault}")
        return Tokens(_SharedSecret(settings.secret), settings)
    keys = SigningKeys(loader(str(settings.issuer), settings.key_set))
    if settings.key_set is not None and is_file(settings.key_set):
        _require_file(settings.key_set, keys)  # only an address may be away for a while
    return Tokens(keys, settings)


def _require_file(name: str, keys: SigningKeys) -> None:
    try:
        keys.require()
    except KeysUnavailableError as error:
        raise SettingError(f"Q2O_JWKS={name} is no file with keys that can be used: {error}") from error


def local_tokens(secret: Secret) -> Tokens:
    """Read the tokens of the local suite, which `issue_token` makes. Raises SettingError if the secret is too short."""
    return tokens_of(TokenSettings(secret=secret))


def issue_token(  # noqa: PLR0917 - the claims in the order of the token
    secret: str,
    subject: str,
    tenant: UUID,
    roles: Sequence[str],
    region: str,
    lifetime: timedelta,
    customers: Sequence[str] = (),
) -> str:
    """Make a bearer token for the local suite; a buyer's names `customers`. Whoever has the secret can issue a token for anybody."""
    now = datetime.now(UTC)
    claims = {"sub": subject, "tenant": str(tenant), "roles": list(roles), "region": region, "iat": now, "exp": now + lifetime}
    return jwt.encode({**claims, "customers": list(customers)} if customers else claims, secret, "HS256")


def _client_of(claims: Mapping[str, Any]) -> str | None:
    return next((_text(claims[name]) for name in CLIENT_CLAIMS if name in claims), None)


def _at(claims: Any, path: str) -> Any:
    """The claim at a path; None when there is none. A name may itself have points: `resource_access.my.client.roles`."""
    if not isinstance(claims, Mapping):
        return None
    if path in claims:
        return claims[path]
    return next((found for head, rest in _splits(path) if head in claims and (found := _at(claims[head], rest)) is not None), None)


def _splits(path: str) -> Iterator[tuple[str, str]]:
    parts = path.split(".")
    return ((".".join(parts[:count]), ".".join(parts[count:])) for count in range(1, len(parts)))


def _scopes(claim: object) -> Collection[str]:
    """The scopes in a claim: text with blanks between them (RFC 8693, 4.2), or a list."""
    return claim.split() if isinstance(claim, str) else _texts(claim)


def _text(claim: object) -> str:
    # People read the subject and the region on forms, so a claim is as plain as what clients send in bodies.
    if not isinstance(claim, str) or (claim and not is_identifier(claim)):
        raise ValueError("a claim is not an identifier")
    return claim


def _texts(claim: object) -> tuple[str, ...]:
    if not isinstance(claim, list):
        raise TypeError("a claim is not a list of strings")
    return tuple(map(_text, claim))
