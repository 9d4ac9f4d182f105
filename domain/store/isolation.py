"""Tenants are kept apart by the database too: row level security on every table, for the owner of the tables as well.

A transaction sees and writes the rows of the tenant that it names, and none before it names one; a query that forgot its tenant finds
nothing of another. What works across tenants (relay, dispatcher, sweeps, audit) says so. A superuser is not bound: connect as none.
"""

from __future__ import annotations

from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import Connection, MetaData, event, text

from domain.store.base import Base
from domain.store.declared import send

EveryTenant = Literal["*"]
EVERY_TENANT: Final = "*"
# Compared as text: a setting that was never made, or was reset with the transaction, is no UUID.
POLICY = (
    "CREATE POLICY tenant ON {table} USING "
    "(tenant_id::text = current_setting('q2o.tenant', true) OR current_setting('q2o.tenant', true) = '*')"
)
NAME_TENANT = text("SELECT set_config('q2o.tenant', :tenant, true)")


def name_tenant(connection: Connection, tenant: UUID | str) -> None:
    """Say for whom this transaction works: a tenant, or EVERY_TENANT."""
    connection.execute(NAME_TENANT, {"tenant": str(tenant)})


def open_for(connection: Connection, tenant: UUID | EveryTenant) -> None:
    """Send the BEGIN of a tenant's transaction: the driver's own and the name would be two round trips, and this is how every command begins.

    The driver finds a transaction and begins none; its commit and rollback, and SQLAlchemy's, end this one like any other.
    """
    send(connection, f"BEGIN; SET LOCAL q2o.tenant = '{tenant}'")


def _isolate(target: MetaData, connection: Connection, **_: Any) -> None:
    for table in target.sorted_tables:
        connection.execute(text(f"ALTER TABLE {table.name} ENABLE ROW LEVEL SECURITY"))
        connection.execute(text(f"ALTER TABLE {table.name} FORCE ROW LEVEL SECURITY"))
        connection.execute(text(POLICY.format(table=table.name)))


event.listen(Base.metadata, "after_create", _isolate)
