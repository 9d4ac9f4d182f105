"""The tenants of the engine, and who is a member of them: a member sees the work of a tenant, nobody else does.

The engine answers for the work of a tenant to others as if there were none, so a worker outside of a tenant waits for ever and nothing
says why. `unserved_tenants` says it.
"""

from __future__ import annotations

from uuid import UUID

from workers.runtime.engine_connection import EngineConnection, EngineRefusedError


class TenantCalls(EngineConnection):
    """Create tenants, make people and groups members of them, and find what a user cannot see."""

    def ensure_tenant(self, tenant_id: UUID, name: str = "") -> None:
        """Create the tenant unless the engine has it, and give it this name.

        Without a name, a tenant keeps the one that it has, and a new one is named by its id.
        """
        address, known = f"/tenant/{tenant_id}", self.find(f"/tenant/{tenant_id}")
        if known is not None:
            if name and known["name"] != name:
                self.put(address, {"id": str(tenant_id), "name": name})
            return
        try:
            self.post("/tenant/create", {"id": str(tenant_id), "name": name or str(tenant_id)})
        except EngineRefusedError:
            # Two processes that start together both find nothing; the engine refuses the second one's insert.
            if self.find(address) is None:
                raise

    def ensure_user_in_tenant(self, tenant_id: UUID, user_id: str) -> None:
        if not self.count("/tenant/count", id=str(tenant_id), userMember=user_id):
            self.put(f"/tenant/{tenant_id}/user-members/{user_id}")

    def ensure_group_in_tenant(self, tenant_id: UUID, group_id: str) -> None:
        if not self.count("/tenant/count", id=str(tenant_id), groupMember=group_id):
            self.put(f"/tenant/{tenant_id}/group-members/{group_id}")

    def name_of_tenant(self, tenant_id: UUID) -> str:
        """The name of a tenant that the engine has."""
        return str(self.get(f"/tenant/{tenant_id}")["name"])

    def tenants(self) -> list[UUID]:
        """Every tenant of the engine that this user may read and that the suite can have made, in the order of their ids."""
        return [UUID(row["id"]) for row in self.rows("/tenant", sortBy="id", sortOrder="asc") if _is_ours(row["id"])]

    def unserved_tenants(self) -> list[UUID]:
        """The tenants whose work this user does not see; not for an administrator, who sees all and is a member of none."""
        mine = self.rows("/tenant", userMember=self.user, includingGroupsOfUser="true")
        served = {str(row["id"]) for row in mine}
        return [tenant for tenant in self.tenants() if str(tenant) not in served]


def _is_ours(tenant_id: str) -> bool:
    try:
        return str(UUID(tenant_id)) == tenant_id
    except ValueError:
        return False
