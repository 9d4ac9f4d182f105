"""Old and young rows of every kind that retention deletes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, func, select, text

from domain.retaining.kinds import KINDS, Kind
from domain.schema import METADATA
from tests.mutants.populated_tenant import PopulatedTenant
from tests.mutants.rows import write
from tests.support.offers import Offers

OLD, YOUNG = timedelta(days=1000), timedelta(hours=1)
OF_KIND: Mapping[str, Mapping[str, Any]] = {
    "events": {"status": "PUBLISHED"},
    "workflow_commands": {"status": "DONE"},
    "payloads": {"processed_status": "APPLIED", "payload": {}},
    "unmatched": {"processed_status": "UNMATCHED", "payload": {}},
}
"""Kind -> columns of a row that may go."""


def fill(db: Engine, number: int = 3) -> Offers:
    """Give a tenant `number` old rows and `number` young rows of every kind."""
    with db.connect() as connection:
        tenant = PopulatedTenant(connection)
        for kind in KINDS:
            # What expires has its end in the future as long as it is young.
            for age in (OLD, -YOUNG if kind.since == "expires_at" else YOUNG) * number:
                write(METADATA.tables[kind.table], tenant, {**fresh(kind, connection, age), **OF_KIND.get(kind.name, {})})
        connection.execute(text("DELETE FROM archive_file"))  # the tenant of every table has one that nobody wrote
        connection.commit()
    return Offers(db, tenant.tenant_id)


def fresh(kind: Kind, connection: Connection, age: timedelta) -> dict[str, Any]:
    """A key that no other row has, and the time."""
    texts = {"idempotency_key", "external_event_id"}
    key = {name: str(uuid4()) if name in texts else uuid4() for name in kind.key if name in {*texts, "id", "event_id"}}
    unique = {"aggregate_id": uuid4()} if kind.table == "outbox_event" else {}
    return {**key, **unique, kind.since: connection.scalar(select(func.now() - age))}
