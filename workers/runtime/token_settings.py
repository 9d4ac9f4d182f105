"""Which bearer tokens the HTTP edge accepts: whose, for whom, for how long, and in which claims the caller stands.

An identity provider signs them, and publishes its keys. A shared secret in its place (HS256) is for the local suite: whoever verifies with it
can forge with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from workers.runtime.environment import Environment, SettingError
from workers.runtime.secret_files import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Where a token says who calls. A name may lead into objects: `realm_access.roles`; `roles` and `scopes` may have several names."""

    subject: str = "sub"
    tenant: str = "tenant"
    roles: tuple[str, ...] = ("roles",)
    scopes: tuple[str, ...] = ("scope", "scp")
    region: str = "region"
    customers: str = "customers"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """Rules for tokens.

    `secret` is set for the local suite, `issuer` and `audiences` for an identity provider. `key_set` is the file or address of its JWKS; None:
    the address that the issuer's discovery document gives. `leeway` allows for clocks that differ. `longest` is from issue to expiry.
    `role_names` maps names of the identity provider to ours; None: it uses ours. `machine_mark` is a claim, or `claim=value`, that only
    tokens of machines have; None: a token is a machine's when its subject is its client.
    """

    secret: Secret | None = None
    issuer: str | None = None
    audiences: tuple[str, ...] = ()
    key_set: str | None = None
    leeway: timedelta = timedelta(seconds=10)
    longest: timedelta = timedelta(hours=24)
    claims: ClaimNames = ClaimNames()
    role_names: Mapping[str, str] | None = None
    machine_mark: str | None = None

    @classmethod
    def of(cls, environment: Environment) -> Self:
        """Read them. Raises SettingError."""
        secret, issuer = environment.find_secret("jwt_secret"), environment.find("jwt_issuer")
        if secret and issuer:
            raise SettingError("Q2O_JWT_SECRET and Q2O_JWT_ISSUER are both set: unset the secret, it is for the local suite")
        if not secret and not issuer:
            raise SettingError(
                "Q2O_JWT_ISSUER is not set: give the issuer of the tokens, or for the local suite a secret in Q2O_JWT_SECRET"
            )
        return cls(
            secret=secret,
            issuer=issuer,
            audiences=environment.names("jwt_audience") or (_missing_audience() if issuer else ()),
            key_set=environment.find("jwks"),
            leeway=environment.seconds("jwt_leeway_seconds"),
            longest=environment.seconds("jwt_longest_seconds"),
            claims=_claim_names(environment),
            role_names=_role_names(environment),
            machine_mark=environment.find("jwt_machine"),
        )


def _missing_audience() -> tuple[str, ...]:
    raise SettingError("Q2O_JWT_AUDIENCE is not set: give the audience that the issuer's tokens for this API have")


def _claim_names(environment: Environment) -> ClaimNames:
    return ClaimNames(
        subject=environment.text("jwt_subject_claim"),
        tenant=environment.text("jwt_tenant_claim"),
        roles=environment.names("jwt_roles_claim"),
        scopes=environment.names("jwt_scope_claim"),
        region=environment.text("jwt_region_claim"),
        customers=environment.text("jwt_customers_claim"),
    )


def _role_names(environment: Environment) -> Mapping[str, str] | None:
    pairs = [pair.partition("=") for pair in environment.names("jwt_role_names")]
    if any(not (theirs and ours) for theirs, _, ours in pairs):
        raise SettingError("Q2O_JWT_ROLE_NAMES is not a list of theirs=ours, separated by commas: correct it, or unset it")
    return {theirs.strip(): ours.strip() for theirs, _, ours in pairs} or None
