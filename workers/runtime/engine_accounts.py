"""The accounts of service processes in the engine: their passwords, and exactly the permissions that they need."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from workers.runtime.engine_connection import EngineRefusedError
from workers.runtime.engine_people import PeopleCalls, Resource


class AccountCalls(PeopleCalls):
    """Set up accounts of processes, and ask what the own account may do."""

    def unmet_rules(self, profile: Mapping[str, str], password: str) -> list[str]:
        """The rules of the engine's password policy that a password does not satisfy for a user; empty when the engine has no policy."""
        try:
            policy = self.ask("/identity/password-policy", {"password": password, "profile": dict(profile)})
        except EngineRefusedError as refusal:
            if refusal.is_not_found:
                return []
            raise
        return sorted(_RULES.get(rule["placeholder"], rule["placeholder"]) for rule in policy["rules"] if not rule["valid"])

    def set_password(self, user_id: str, password: str) -> None:
        """Give an existing user this password. The engine asks for the caller's own password once more."""
        self.put(f"/user/{user_id}/credentials", {"password": password, "authenticatedUserPassword": self._login.password})

    def grant_exactly(self, user_id: str, grants: Mapping[tuple[Resource, str], Collection[str]]) -> None:
        """Give a user these permissions, by kind and id of the resource, and take all others of the user away.

        Among the others is what the engine grants to a new user: to change their own password and profile, and to delete themselves.
        """
        rows = self.rows("/authorization", userIdIn=user_id)
        held = {(row["resourceType"], row["resourceId"]): set(row["permissions"]) for row in rows}
        for row in rows:
            if (row["resourceType"], row["resourceId"]) not in grants:
                self.delete(f"/authorization/{row['id']}")
        for (kind, resource_id), permissions in grants.items():
            if held.get((kind, resource_id)) != set(permissions):
                self.ensure_authorization(kind, resource_id, sorted(permissions), user_id=user_id)

    def may_deploy(self) -> bool:
        """Whether the caller's own account may bring models to the engine, which is to run code in it."""
        return self.may("CREATE", Resource.DEPLOYMENT)

    def may(self, permission: str, kind: Resource, resource_id: str = "*") -> bool:
        """Whether the caller's own account has a permission on a resource (default: on all of the kind)."""
        query = {"permissionName": permission, "resourceName": kind.name, "resourceType": kind, "resourceId": resource_id}
        return bool(self.get("/authorization/check", **query)["authorized"])


_RULES: Mapping[str, str] = {
    "PASSWORD_POLICY_LENGTH": "at least 10 characters",
    "PASSWORD_POLICY_LOWERCASE": "a lower-case letter",
    "PASSWORD_POLICY_UPPERCASE": "an upper-case letter",
    "PASSWORD_POLICY_DIGIT": "a digit",
    "PASSWORD_POLICY_SPECIAL": "a special character",
    "PASSWORD_POLICY_USER_DATA": "no name of the user in it",
}
