"""Statements that copy and name rows of a settled tenant, for a transaction in which nothing protects them."""

from __future__ import annotations

import json
from typing import Any

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


ORDER = one("sales_order", "status <> 'CANCELLED'")
ACCEPTED_QUOTE = one("quote", "status = 'ACCEPTED'")
