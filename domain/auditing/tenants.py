"""Which tenants there are: every tenant of which something is stored or archived."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, text

_ROOTS = ("quote", "price_book_head", "authority_grant", "fallout_case", "idempotency_record", "archive_file")
"""One of them has a row of each tenant that ever did anything."""
# From one tenant to the next along an index: a table of a million rows costs as many steps as there are tenants.
_OF_TABLES = (
    f"""SELECT tenant_id FROM (WITH RECURSIVE t AS (
            (SELECT tenant_id FROM {table} ORDER BY tenant_id LIMIT 1)
            UNION ALL SELECT (SELECT n.tenant_id FROM {table} n WHERE n.tenant_id > t.tenant_id ORDER BY n.tenant_id LIMIT 1)
            FROM t WHERE t.tenant_id IS NOT NULL) SELECT tenant_id FROM t WHERE tenant_id IS NOT NULL) of_{table}"""  # noqa: S608 - names of this module
    for table in _ROOTS
)
_TENANTS = text(" UNION ".join(_OF_TABLES) + " ORDER BY tenant_id")


def tenants(connection: Connection) -> Sequence[UUID]:
    """Every tenant, in the order of their ids. Needs a transaction that sees all of them."""
    return list(connection.scalars(_TENANTS))
