"""Rows of the first release survive the upgrade, and their new columns get the values that were true then."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from alembic import command
from sqlalchemy import Connection, Engine, text

from domain.migrations import configuration, migrate
from domain.store.isolation import EVERY_TENANT, name_tenant

TENANT, ID = str(uuid4()), str(uuid4())
BEFORE, THEN = "2026-01-01T00:00:00+00:00", "2026-02-01T00:00:00+00:00"
NAMED = ("quote", "current_revision", "quote_revision", "revision", "config_result", "price_result", "document", "order")
OF_ONE_OFFER = {f"{name}_id": ID for name in (*NAMED, "approval_request", "request", "requirement")}
COMMON: dict[str, Any] = {"tenant_id": TENANT, "id": ID, "created_at": THEN, "updated_at": THEN, "version": 1, **OF_ONE_OFFER}
OFFERED: dict[str, Any] = {"customer_id": "customer-1", "currency": "EUR", "valid_until": THEN}
FIRST_RELEASE: dict[str, dict[str, Any]] = {
    "quote": {
        **OFFERED,
        "status": "ACCEPTED",
        "owner_user_id": "sally",
        "region": "EU",
        "payment_term_days": 30,
        "quote_number": "Q-1",
    },
    "quote_revision": {"revision_no": 1, "status": "ACCEPTED", "content_hash": "1"},
    "configuration_result": {"catalog_version": "1", "input_hash": "1", "valid": True, "messages": []},
    "price_result": {
        **OFFERED,
        "price_book": "STANDARD",
        "price_book_version": "p-1",
        "catalog_version": "1",
        "priced_at": BEFORE,
        "staleness_policy": "VALID_UNTIL_QUOTE_EXPIRY",
        "input_hash": "1",
        **dict.fromkeys(("list_total", "net_total", "max_discount_percent", "margin_percent"), 20),
    },
    "approval_request": {"status": "APPROVED", "policy_definition_id": "approval-requirements:1"},
    "quote_document": {"sha256": "1", "content": "{}"},
    "sales_order": {
        **OFFERED,
        "status": "CREATED",
        "order_number": "O-1",
        "order_kind": "PRIMARY",
        "ponr_reached": False,
        "priority": 4,
    },
    "price_book_head": {"price_book": "STANDARD", "active_version": "p-2", "published_at": BEFORE},
    "price_book_version": {
        "price_book": "STANDARD",
        "price_book_version": "p-2",
        "material_offering_ids": [],
        "published_at": BEFORE,
    },
    "approval_requirement": {
        "status": "APPROVED",
        "type": "DISCOUNT",
        "level": 1,
        "approver_group": "approverRsm",
        "min_authority": 20,
        "due_at": THEN,
        "escalation_level": 0,
    },
    "approval_decision": {
        "decision": "APPROVE",
        "decided_by": "rita",
        "authority_snapshot": {},
        "reason_code": "WITHIN_POLICY",
        "approval_task_id": "task",
    },
    "quote_acceptance": {
        "price_book_version": "p-1",
        "active_price_book_version_seen": "p-2",
        "staleness_policy": "VALID_UNTIL_QUOTE_EXPIRY",
        "accepted_by": "carla",
        "channel": "WEB",
    },
}


def first_release(engine: Engine) -> None:
    """Build the schema of the first release with an accepted offer; every row has the same id, parents come first."""
    config = configuration()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
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


def test_the_numbers_of_a_tenant_go_on_after_its_highest_one(two_databases: tuple[Engine, Engine]) -> None:
    engine, _ = two_databases
    first_release(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE quote SET quote_number = 'Q-75'"))

    migrate(engine)

    with engine.connect() as connection:
        name_tenant(connection, TENANT)
        assert [connection.scalar(text(f"SELECT next_number('{prefix}')")) for prefix in ("Q", "O", "F")] == ["Q-76", "O-2", "F-1"]
        name_tenant(connection, str(uuid4()))
        assert connection.scalar(text("SELECT next_number('Q')")) == "Q-1"


def planned_step(connection: Connection, **more: Any) -> None:
    """Plan one more step of the order as a pod does, with the columns of its release."""
    columns = {
        "tenant_id": TENANT,
        "id": str(uuid4()),
        "version": 1,
        "status": "PENDING",
        **dict.fromkeys(("plan_id", "order_id", "line_id"), ID),
        "step_code": str(uuid4()),
        "kind": "FULFILL",
        "provider_name": "inventory",
        **dict.fromkeys(("compensable", "is_ponr"), False),
        **more,
    }
    names = ", ".join(columns)
    connection.execute(
        text(f"INSERT INTO fulfillment_step ({names}) VALUES ({', '.join(f':{name}' for name in columns)})"), columns
    )


def test_pods_of_this_release_and_of_the_one_before_plan_steps_side_by_side(two_databases: tuple[Engine, Engine]) -> None:
    engine, _ = two_databases
    first_release(engine)
    migrate(engine)

    with engine.begin() as connection:
        name_tenant(connection, EVERY_TENANT)
        connection.execute(
            text(
                "INSERT INTO fulfillment_plan (tenant_id, id, order_id, plan_no, decomposition_hash, catalog_version) "
                "VALUES (:tenant, :id, :id, 1, '', '1')"
            ),
            {"tenant": TENANT, "id": ID},
        )
        connection.execute(
            text(
                "INSERT INTO sales_order_line (tenant_id, id, order_id, line_no, product_offering_id, action, quantity) "
                "VALUES (:tenant, :id, :id, 1, 'router', 'ADD', 1)"
            ),
            {"tenant": TENANT, "id": ID},
        )
        planned_step(connection, required=True)
        planned_step(connection)

        assert connection.scalars(text("SELECT required FROM fulfillment_step")).all() == [True, True]
