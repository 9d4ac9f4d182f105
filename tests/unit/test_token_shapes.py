"""Whom a token names in the shapes of Keycloak and of Microsoft Entra ID, and whom the token of a machine names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import pytest

from tests.support.identity_provider import AUDIENCE, IdentityProvider, Key, rsa_key
from tests.support.tokens import CALLER, TENANT, caller, provider, refusal

__all__ = ["provider"]


class TestKeycloak:
    """Tokens as Keycloak 26 issues them."""

    SETTINGS: Mapping[str, str] = {
        "jwt_subject_claim": "preferred_username",
        "jwt_roles_claim": "realm_access.roles,resource_access.q2o.api.roles",
        "jwt_role_names": "q2o-approver=approverRsm,q2o-sales=salesAgent,quotes.write=salesAgent",
        "jwt_machine": "client_id",
    }
    PERSON: Mapping[str, Any] = {
        "auth_time": 1,
        "jti": "onrtac:0e1c",
        "aud": [AUDIENCE, "account"],
        "sub": "f:5a3e:rina",
        "typ": "Bearer",
        "azp": "sales-portal",
        "sid": "b5c2",
        "acr": "1",
        "allowed-origins": ["https://sales.example"],
        "realm_access": {"roles": ["offline_access", "uma_authorization", "default-roles-q2o", "q2o-sales"]},
        "resource_access": {"q2o.api": {"roles": ["q2o-approver"]}, "account": {"roles": ["manage-account"]}},
        "scope": "openid email profile quotes.write",
        "preferred_username": "rina",
        "tenant": str(TENANT),
        "region": "ID-JAVA",
    }

    def test_a_person_has_the_roles_of_the_realm_and_of_the_client(self, provider: IdentityProvider) -> None:
        found = caller(provider, provider.token(**self.PERSON), **self.SETTINGS)

        assert (found.subject, found.tenant_id, found.region) == ("rina", TENANT, "ID-JAVA")
        assert list(found.roles) == ["approverRsm", "salesAgent"]

    def test_the_scopes_of_a_persons_client_give_the_person_no_role(self, provider: IdentityProvider) -> None:
        token = provider.token(**{**self.PERSON, "realm_access": {"roles": []}})

        assert list(caller(provider, token, **self.SETTINGS).roles) == ["approverRsm"]

    def test_a_person_without_roles_is_known_and_may_do_nothing(self, provider: IdentityProvider) -> None:
        token = provider.token(**{**self.PERSON, "realm_access": None, "resource_access": None})

        assert list(caller(provider, token, **self.SETTINGS).roles) == []

    def test_a_name_of_ours_gives_no_role_where_other_names_are_agreed(self, provider: IdentityProvider) -> None:
        token = provider.token(**{**self.PERSON, "realm_access": {"roles": ["authorityAdmin"]}})

        assert list(caller(provider, token, **self.SETTINGS).roles) == ["approverRsm"]

    def test_a_service_account_has_the_roles_of_its_scopes_and_acts_as_its_client(self, provider: IdentityProvider) -> None:
        machine: dict[str, Any] = {
            "sub": "9e0f6d0a-51a7",
            "azp": "billing",
            "client_id": "billing",
            "preferred_username": "service-account-billing",
            "scope": "profile quotes.write",
            "realm_access": {"roles": ["q2o-approver"]},
            "tenant": str(TENANT),
        }

        found = caller(provider, provider.token(**machine), **self.SETTINGS)

        assert (found.subject, list(found.roles)) == ("client:billing", ["approverRsm", "salesAgent"])

    @pytest.mark.parametrize("claim", [{"roles": "q2o-sales"}, {"roles": [{}]}, {"roles": {"q2o-sales": True}}])
    def test_roles_in_another_form_are_refused(self, provider: IdentityProvider, claim: Any) -> None:
        token = provider.token(**{**self.PERSON, "realm_access": claim})

        assert "malformed" in refusal(provider, token, **self.SETTINGS)


class TestEntra:
    """Access tokens of the v2.0 endpoint of Microsoft Entra ID; its keys name no algorithm."""

    SETTINGS: Mapping[str, str] = {
        "jwt_issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0",
        "jwt_subject_claim": "oid",
        "jwt_tenant_claim": "tid",
        "jwt_role_names": "Quotes.Sell=salesAgent,Quotes.Approve=approverDirector",
        "jwt_machine": "idtyp=app",
    }
    PERSON: Mapping[str, Any] = {
        "aio": "AWQAm",
        "azp": "1b9f6f0c-2f6e-4a53-8a3e-3f3a1f0d2b77",
        "azpacr": "1",
        "name": "Dewi Hartono",
        "oid": "8d2f6c1e-9c3b-4c53-a1c9-6a5e1f0b7c11",
        "preferred_username": "dewi@example.com",
        "rh": "0.AX",
        "roles": ["Quotes.Approve"],
        "scp": "access_as_user Quotes.Sell",
        "sub": "pairwise-value",
        "tid": str(TENANT),
        "uti": "x",
        "ver": "2.0",
    }

    @pytest.fixture
    def entra(self) -> IdentityProvider:
        key = rsa_key("entra")
        jwk = {name: value for name, value in key.jwk.items() if name != "alg"}
        signing = Key(kid=key.kid, algorithm=key.algorithm, private=key.private, jwk={**jwk, "x5t": "entra", "x5c": ["MIIC"]})
        return IdentityProvider(issuer=self.SETTINGS["jwt_issuer"], keys=[signing])

    def test_a_person_has_the_app_roles_and_not_the_scopes(self, entra: IdentityProvider) -> None:
        found = caller(entra, entra.token(**self.PERSON), **self.SETTINGS)

        assert (found.subject, found.tenant_id, list(found.roles)) == (self.PERSON["oid"], TENANT, ["approverDirector"])

    def test_an_application_has_its_app_roles_and_acts_as_its_client(self, entra: IdentityProvider) -> None:
        token = entra.token(**{**self.PERSON, "idtyp": "app", "roles": ["Quotes.Sell"], "scp": None})

        found = caller(entra, token, **self.SETTINGS)

        assert (found.subject, list(found.roles)) == (f"client:{self.PERSON['azp']}", ["salesAgent"])

    def test_a_token_of_another_directory_is_refused(self, entra: IdentityProvider) -> None:
        other = str(UUID(int=7))
        token = entra.token(**{**self.PERSON, "iss": f"https://login.microsoftonline.com/{other}/v2.0", "tid": other})

        assert "another issuer" in refusal(entra, token, **self.SETTINGS)


class TestMachines:
    def test_a_client_that_is_its_own_subject_is_a_machine(self, provider: IdentityProvider) -> None:
        token = provider.token(sub="billing", client_id="billing", scope="salesAgent openid", tenant=str(TENANT))

        found = caller(provider, token)

        assert (found.subject, list(found.roles)) == ("client:billing", ["salesAgent"])

    def test_scopes_may_be_a_list(self, provider: IdentityProvider) -> None:
        token = provider.token(sub="billing", client_id="billing", scp=["salesAgent"], tenant=str(TENANT))

        assert list(caller(provider, token).roles) == ["salesAgent"]

    def test_a_marked_machine_that_names_no_client_is_refused(self, provider: IdentityProvider) -> None:
        assert "id of a client" in refusal(provider, provider.token(**CALLER, gty="m2m"), jwt_machine="gty=m2m")

    def test_a_mark_with_another_value_makes_no_machine(self, provider: IdentityProvider) -> None:
        token = provider.token(**CALLER, gty="password", azp="portal", scope="authorityAdmin")

        found = caller(provider, token, jwt_machine="gty=m2m")

        assert (found.subject, list(found.roles)) == ("rina", ["approverRsm"])
