"""What was written under the first release is still whole after the upgrade, and its new columns tell what was true then."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from alembic import command
from sqlalchemy import Connection, Engine, text

from domain.migrations import configuration, migrate
from domain.store.isolation import EVERY_TENANT, name_tenant
from tests.support.bad_histories import UNPROTECT

TENANT, ID = str(uuid4()), str(uuid4())
BEFORE, THEN = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
COMMON: dict[str, Any] = {"tenant_id": TENANT, "id": ID, "created_at": THEN, "updated_at": THEN, "version": 1}
OF_QUOTE = dict.fromkeys(("quote_id", "quote_revision_id", "price_result_id", "request_id", "requirement_id"), ID)
FIRST_RELEASE: dict[str, dict[str, Any]] = {
    "price_book_head": {"price_book": "STANDARD", "active_version": "p-2", "published_at": BEFORE},
    "price_book_version": {
        "price_book": "STANDARD",
        "price_book_version": "p-2",
        "material_offering_ids": [],
        "published_at": BEFORE,
    },
    "approval_requirement": {
        **OF_QUOTE,
        "status": "APPROVED",
        "type": "DISCOUNT",
        "level": 1,
        "approver_group": "approverRsm",
        "min_authority": 20,
        "due_at": THEN,
        "escalation_level": 0,
    },
    "approval_decision": {
        **OF_QUOTE,
        "decision": "APPROVE",
        "decided_by": "rita",
        "authority_snapshot": {},
        "reason_code": "WITHIN_POLICY",
        "approval_task_id": "task",
    },
    "quote_acceptance": {
        **OF_QUOTE,
        "approval_request_id": ID,
        "document_id": ID,
        "order_id": ID,
        "price_book_version": "p-1",
        "active_price_book_version_seen": "p-2",
        "staleness_policy": "VALID_UNTIL_QUOTE_EXPIRY",
        "accepted_by": "carla",
        "channel": "WEB",
    },
}


def first_release(engine: Engine) -> None:
    """Build the schema of the first release, with a row in each table that the upgrade changes."""
    config = configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        # Its neighbours are not needed to see what becomes of a row.
        connection.execute(text(UNPROTECT))
        for table, values in FIRST_RELEASE.items():
            connection.execute(
                text(f"INSERT INTO {table} SELECT * FROM jsonb_populate_record(NULL::{table}, CAST(:row AS jsonb))"),
                {"row": json.dumps({**COMMON, **values})},
            )


def one(connection: Connection, table: str) -> dict[str, Any]:
    return dict(connection.execute(text(f"SELECT * FROM {table}")).one()._mapping)


def test_rows_of_the_first_release_survive_the_upgrade(two_databases: tuple[Engine, Engine]) -> None:
    engine, _ = two_databases
    first_release(engine)

    migrate(engine)

    with engine.connect() as connection:
        name_tenant(connection, EVERY_TENANT)
        head, requirement, decision, acceptance = (
            one(connection, table) for table in ("price_book_head", "approval_requirement", "approval_decision", "quote_acceptance")
        )
    assert (head["version"], head["status"], head["active_version"]) == (1, "ACTIVE", "p-2")
    assert (requirement["because"], requirement["remind_at"], requirement["reminded_at"]) == (
        "DISCOUNT",
        requirement["due_at"],
        None,
    )
    assert (decision["decision"], decision["basis_decision_id"]) == ("APPROVE", None)
    assert acceptance["accepted_at"] == acceptance["created_at"]
    assert acceptance["active_version_published_at"].isoformat().startswith("2026-01-01")
