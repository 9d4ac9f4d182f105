"""Statements that copy and name rows of a settled tenant, for a transaction in which nothing protects them."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, insert, text

from domain.projections.tables import TABLES, header_of
from domain.rebuilding import AUTHORITIES

NEW, OTHER_TENANT = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"
UNPROTECT = """
DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT conrelid::regclass AS relation, conname FROM pg_constraint
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', one.relation, one.conname);
    END LOOP;
    FOR one IN SELECT DISTINCT tgrelid::regclass AS relation FROM pg_trigger WHERE NOT tgisinternal LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', one.relation);
    END LOOP;
END $$"""


def copy(table: str, where: str, always: str = "", **changes: Any) -> str:
    """Copy one row with changes."""
    return (
        f"INSERT INTO {table} {always} SELECT (jsonb_populate_record(r, '{json.dumps(changes)}')).* FROM {table} r "
        f"WHERE tenant_id = :tenant AND {where} LIMIT 1"
    )


def one(table: str, where: str = "true", column: str = "id") -> str:
    """Select one row's id, always the same one."""
    return f"(SELECT {column} FROM {table} WHERE tenant_id = :tenant AND {where} ORDER BY {column} LIMIT 1)"


FORGET_THE_FOLD = (
    # Nobody has consumed an event that is gone, and what the events add up to is compared only where they have every member.
    (
        "DELETE FROM consumer_inbox WHERE tenant_id = :tenant AND event_id NOT IN "
        "(SELECT id FROM outbox_event UNION ALL SELECT emitted_event_id FROM transition_log WHERE emitted_event_id IS NOT NULL)"
    ),
    (
        "UPDATE outbox_event SET payload = payload - 'createdAt' - 'decision' "
        "WHERE tenant_id = :tenant AND aggregate_type IN ('quote', 'sales_order', 'approval_requirement')"
    ),
)


def follow(connection: Connection, tenant_id: UUID) -> None:
    """Let the consumers' views follow what was planted, so that the audit finds only the fault itself."""
    for statement in FORGET_THE_FOLD:
        connection.execute(text(statement), {"tenant": tenant_id})
    for projection, table in TABLES.items():
        authority = AUTHORITIES[projection]
        truth = authority.rows.where(authority.identity.table.c.tenant_id == tenant_id)
        connection.execute(delete(table).filter_by(tenant_id=tenant_id))
        names = ["tenant_id", *(column.name for column in header_of(projection))]
        connection.execute(insert(table).from_select(names, truth, include_defaults=False))


ORDER = one("sales_order", "status <> 'CANCELLED'")
ACCEPTED_QUOTE = one("quote", "status = 'ACCEPTED'")
