"""The database keeps tenants apart, too: row level security on every table, for the owner of the tables as well (decision 0011).

A transaction sees and writes the rows of the tenant that it names, and no row before it names one. So a query that forgets its tenant finds
no row of another tenant. Relay, dispatcher, sweeps and audit name EVERY_TENANT, which counts only for members of EVERY_TENANT_ROLE: an
entry that serves one tenant at a time cannot name all of them (decision 0026). A superuser is not bound: never connect as one.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, Engine, MetaData, event, text

from domain.store.base import Base
from domain.store.declared import send, server_version
from domain.store.limits import LIMITS, Limits, setting

EveryTenant = Literal["*"]
EVERY_TENANT: Final = "*"
ONLY_TENANT: Final = "q2o_only_tenant"
"""An option of a database whose process serves one tenant: its claims and sweeps, too, see the rows of this tenant alone."""
EVERY_TENANT_ROLE: Final = "q2o_every_tenant"
POLICIES = (
    # Compared as text: a setting that was never made, or that ended with its transaction, is no UUID.
    "CREATE POLICY tenant ON {table} USING (tenant_id::text = current_setting('q2o.tenant', true))",
    # The server looks at the role when it plans a statement, so the role costs nothing for each row.
    "CREATE POLICY every_tenant ON {table} TO " + EVERY_TENANT_ROLE + " USING (current_setting('q2o.tenant', true) = '*')",
)
NAME_TENANT = text("SELECT set_config('q2o.tenant', :tenant, true)")


def name_tenant(connection: Connection, tenant: UUID | str) -> None:
    """Name the tenant of this transaction, or EVERY_TENANT."""
    connection.execute(NAME_TENANT, {"tenant": str(tenant)})


def tenant_of_machinery(database: Engine) -> UUID | EveryTenant:
    """For whom claims, marks and sweeps of this process work: for every tenant, or for the only one that it serves."""
    tenant: UUID | EveryTenant = database.get_execution_options().get(ONLY_TENANT, EVERY_TENANT)
    return tenant


def open_for(connection: Connection, tenant: UUID | EveryTenant, mode: str = "", *, by_index: bool = False) -> None:
    """Begin a transaction, and name its tenant and its limits in one round trip, because every command begins like this (decision 0014).

    `mode`: what BEGIN says of it, such as READ ONLY. The driver finds an open transaction and begins none. Its commit and rollback, and
    those of SQLAlchemy, end this one as usual.

    `by_index`: pages are read in the order of an index. The planner assumes that the policies hide 99 of 100 rows; so it expects fewer rows
    than a page has, and would read and sort every row for one page.
    """
    limits = connection.get_execution_options().get(LIMITS)
    limiting = setting(limits, server_version(connection)) if limits else ""
    ordering = "; SET LOCAL enable_sort = off" if by_index else ""
    send(connection, f"BEGIN {mode}; SET LOCAL q2o.tenant = '{tenant}'{limiting}{ordering}")


def limits_of(connection: Connection) -> dict[str, int]:
    """The limits that every transaction on this pool sets, by their names, in milliseconds."""
    limits: Limits | None = connection.get_execution_options().get(LIMITS)
    return limits.by_name(server_version(connection)) if limits else {}


def _isolate(target: MetaData, connection: Connection, **_: Any) -> None:
    for table in target.sorted_tables:
        connection.execute(text(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"))
        connection.execute(text(f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY"))
        for policy in POLICIES:
            connection.execute(text(policy.format(table=table.name)))


event.listen(Base.metadata, "after_create", _isolate)
