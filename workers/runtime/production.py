"""`Q2O_MODE=production`: what is good enough for the local suite, and refused where real customers are served.

The rule: every variable that is set is judged, also one that this process does not read, and all faults are named at once.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from itertools import pairwise
from urllib.parse import parse_qs, unquote, urlsplit

from workers.runtime.callback_secrets import split
from workers.runtime.environment import DATABASES, FILE, SECRETS, Environment, SettingError, variable
from workers.runtime.kafka_words import Protocol
from workers.runtime.secret_files import reveal

PRODUCTION = "production"
SHORTEST_SECRET = 16
"""Characters; with the variety below, they cannot be guessed over a network."""
VARIETY = 8
"""A secret has at least as many different characters, and as many different steps from one character to the next."""
ENCRYPTED = ("engine_url", "provider_url", "provider_ledger_url", "jwt_issuer", "jwks")
VERIFIED = "verify-full"
"""The only sslmode that compares the server's certificate with its name: every other one accepts a server that pretends to be ours."""
GUESSABLE = tuple(name for name in SECRETS if name not in {*DATABASES, "callback_secret", "jwt_secret", "redis_url"})
"""Secrets whose whole text is judged: an address has a password inside, one variable has several secrets, and one is refused anyhow."""


def is_production(variables: Mapping[str, str]) -> bool:
    """Whether the mode is production. Raises SettingError for a mode that does not exist."""
    return Environment(variables).text("mode") == PRODUCTION


def require_fitness(variables: Mapping[str, str]) -> None:
    """Raises SettingError with a line for each setting that production does not allow."""
    if is_production(variables) and (faults := list(_faults(Environment(variables)))):
        raise SettingError("\n".join(faults))


def require_local(variables: Mapping[str, str], command: str, reason: str) -> None:
    """Raises SettingError in production, for a command that is made for the local suite."""
    if is_production(variables):
        raise SettingError(
            f"`q2o {command}` is refused with Q2O_MODE=production: {reason}; unset Q2O_MODE on a machine for trying out"
        )


def _faults(environment: Environment) -> Iterator[str]:
    if any(environment.variables.get(variable("jwt_secret") + ending) for ending in ("", FILE)):
        yield (
            "Q2O_JWT_SECRET makes tokens that every process which verifies them could forge (HS256): "
            "unset it, and set Q2O_JWT_ISSUER and Q2O_JWT_AUDIENCE"
        )
    yield from _unencrypted(environment)
    for name in GUESSABLE:
        yield from _weakness(variable(name), _current(environment, name))
    for secret in split(_current(environment, "callback_secret") or ""):
        yield from _weakness("a secret in Q2O_CALLBACK_SECRET", secret)
    for name in DATABASES:
        yield from _weakness(f"the password in {variable(name)}", _password(_current(environment, name)))
    yield from _open_redis(_current(environment, "redis_url"))


def _unencrypted(environment: Environment) -> Iterator[str]:
    for name in ENCRYPTED:
        if environment.variables.get(variable(name), "").lower().startswith("http://"):
            yield f"{variable(name)} is not encrypted (http://): give an address with https://"
    protocol = environment.variables.get(variable("kafka_security_protocol")) or Protocol.PLAINTEXT
    if environment.variables.get(variable("kafka")) and protocol in {Protocol.PLAINTEXT, Protocol.SASL_PLAINTEXT}:
        yield f"Q2O_KAFKA_SECURITY_PROTOCOL={protocol} is not encrypted: set it to {Protocol.SSL} or {Protocol.SASL_SSL}"
    for name in DATABASES:
        database = _current(environment, name)
        if database and _parameters(database).get("sslmode") != [VERIFIED]:
            yield f"{variable(name)} does not demand a certificate that is checked: add sslmode={VERIFIED} to its parameters"


def _open_redis(address: str | None) -> Iterator[str]:
    """Whoever can write there can delay the sweeps of reconciliation by a minute each time."""
    if address is None:
        return
    if not address.lower().startswith("rediss://"):
        yield "Q2O_REDIS_URL is not encrypted (redis://): give an address with rediss://"
    if not (password := _password(address)):
        yield "Q2O_REDIS_URL has no password: give it the user and the password of this process"
    yield from _weakness("the password in Q2O_REDIS_URL", password)


def _current(environment: Environment, name: str) -> str | None:
    try:
        secret = environment.find_secret(name)
    except SettingError:
        return None  # whoever reads it says what is wrong with it
    return None if secret is None else reveal(secret)


def _weakness(named: str, secret: str | None) -> Iterator[str]:
    if secret is None:
        return
    if len(secret) < SHORTEST_SECRET:
        yield f"{named} is too short: give at least {SHORTEST_SECRET} random characters"
    elif is_repetitive(secret) or is_repetitive(_decoded(secret)):
        yield f"{named} is repetitive: give random characters"


def is_repetitive(secret: str) -> bool:
    """Whether a secret has so few different characters or steps, or repeats a part of itself so often, that it can be guessed."""
    steps = {ord(after) - ord(before) for before, after in pairwise(secret)}
    return min(len(set(secret)), len(steps)) < VARIETY or any(
        secret == (secret[:length] * len(secret))[: len(secret)] for length in range(1, len(secret) // 2 + 1)
    )


def _decoded(secret: str) -> str:
    """What a callback secret stands for; the secret itself when it is not base64."""
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True).decode("latin-1") or secret
    except (binascii.Error, ValueError):
        return secret


def _parameters(address: str) -> Mapping[str, list[str]]:
    try:
        return parse_qs(urlsplit(address).query)
    except ValueError:
        return {}


def _password(address: str | None) -> str | None:
    """The password in an address, before the host or as a parameter."""
    if not address:
        return None
    try:
        written = urlsplit(address).password
        return unquote(written) if written else next(iter(_parameters(address).get("password", ())), None)
    except ValueError:
        return None  # `workers.runtime.database` says how to write it
