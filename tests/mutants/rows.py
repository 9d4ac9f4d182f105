"""Rows inserted by hand: copies of those that the product wrote, with the values of which a constraint accepts or refuses them.

PostgreSQL accepts a copy with a new key (`FRESH`), and refuses it after one change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import Table

from domain.delivery.steps import StepKind
from domain.schema import METADATA
from tests.mutants.populated_tenant import PopulatedTenant, of

Changes = Mapping[str, Any]
FRESH: dict[str, Callable[[PopulatedTenant], Changes]] = {
    "quote": lambda _: {"quote_number": "by hand"},
    "quote_revision": lambda _: {"revision_no": 99, "status": "SUPERSEDED"},
    "quote_line": lambda tenant: {"revision_id": tenant.draft.revision_id, "line_no": 99},
    "price_book_head": lambda _: {"price_book": "by hand"},
    "price_book_version": lambda _: {"price_book_version": "by hand"},
    "price_book_entry": lambda _: {"product_offering_id": "by hand"},
    "approval_request": lambda _: {"status": "REJECTED"},
    "approval_requirement": lambda _: {"level": 99},
    "approval_decision": lambda tenant: {
        **of(tenant.in_approval),
        "requirement_id": tenant.unsigned,
        "approval_task_id": "by hand",
        "shown_form_id": None,
    },
    "quote_document": lambda _: {"sha256": "by hand"},
    "quote_acceptance": lambda tenant: of(tenant.in_approval),
    "sales_order": lambda _: {"order_number": "by hand", "order_kind": "CHANGE"},
    "idempotency_record": lambda _: {"idempotency_key": "by hand"},
    "transition_log": lambda _: {"aggregate_id": uuid4()},
    "outbox_event": lambda _: {"aggregate_id": uuid4()},
    "sales_order_line": lambda _: {"line_no": 99},
    "fulfillment_plan": lambda _: {"plan_no": 99},
    "fulfillment_step": lambda _: {"step_code": "BY_HAND", "kind": StepKind.FULFILL, "compensates_step_id": None},
    "fulfillment_step_dependency": lambda tenant: dict.fromkeys(
        ("step_id", "depends_on_step_id"), tenant.id_in("fulfillment_step")
    ),
    "provider_attempt": lambda _: {"status": "FAILED"},
    "external_callback_record": lambda _: {"external_event_id": "by hand"},
    "workflow_correlation": lambda _: {"aggregate_id": uuid4(), "business_key": "by hand"},
    "archive_file": lambda _: {"sequence": 99},
    "customer_key": lambda _: {"customer_id": "by hand"},
    "consumer_inbox": lambda _: {"event_id": uuid4()},
    "reconciliation_lease": lambda _: {"subject_id": uuid4()},
    "quote_search": lambda _: {"quote_id": uuid4()},
    "order_search_projection": lambda _: {"order_id": uuid4()},
    "quote_approval_projection_decision": lambda _: {"approval_decision_id": uuid4()},
    "cancellation_request": lambda _: {"status": "DONE"},
    "step_contradiction": lambda _: {"answer": None, "answered_at": None},
    "fallout_case": lambda _: {
        "case_number": "by hand",
        "dedupe_key": "by hand",
        "status": "OPEN",
        "owner_user_id": None,
        "claim_expires_at": None,
    },
    "fallout_note": lambda _: {"kind": "INFORMATION", "external_ref": None},
    "jeopardy_alert": lambda _: {"level": "NORMAL"},
    "step_repair": lambda _: {"field": "by hand"},
    "workflow_instance": lambda _: {"process_instance_id": "by hand", "caller_instance_id": None},
}
"""Values that keep a copy of a row from colliding with its original; every copy has an id of its own."""
SAME: dict[str, Callable[[PopulatedTenant], Changes]] = {
    "uq_quote_revision_working": lambda tenant: {"quote_id": tenant.draft.quote_id, "status": "WORKING"},
    "uq_quote_revision_accepted": lambda tenant: {"quote_id": tenant.accepted.quote_id, "status": "ACCEPTED"},
    "uq_approval_request_open": lambda tenant: {**of(tenant.in_approval), "status": "OPEN"},
    "uq_approval_decision_tenant_id_requirement_id": lambda tenant: {"requirement_id": tenant.signed},
    "uq_quote_acceptance_tenant_id_quote_revision_id": lambda tenant: of(tenant.accepted),
    "uq_order_quote_revision_primary": lambda _: {"order_kind": "PRIMARY"},
    "uq_quote_line_tenant_id_revision_id_line_no": lambda tenant: {"revision_id": tenant.draft.revision_id, "line_no": 1},
    "uq_fulfillment_step_tenant_id_plan_id_line_id_step_code_kind": lambda tenant: tenant.planned("RESERVE_INVENTORY"),
    "uq_fulfillment_step_tenant_id_compensates_step_id": lambda tenant: {
        "kind": StepKind.COMPENSATE,
        "compensates_step_id": tenant.work.step("RESERVE_INVENTORY").id,
    },
    "uq_provider_attempt_live": lambda tenant: {"step_id": tenant.work.step("CHECK_SERVICEABILITY").id, "status": "SENT"},
    "uq_cancellation_request_open": lambda _: {"status": "ACKNOWLEDGED"},
    "uq_workflow_instance_tenant_id_process_instance_id": lambda tenant: {"process_instance_id": tenant.instance_id},
}
"""Values that make a fresh copy collide with another row, where equal columns do not."""
BROKEN: dict[str, Callable[[PopulatedTenant], tuple[Changes, ...]]] = {
    "ck_quote_line_quantity": lambda _: ({"quantity": 0}, {"quantity": -1}),
    "ck_quote_line_discount": lambda _: ({"discount_percent": -0.01}, {"discount_percent": 100.01}),
    "ck_authority_grant_discount": lambda _: ({"max_discount_percent": -0.01}, {"max_discount_percent": 100.01}),
    "ck_authority_grant_validity": lambda _: ({"valid_from": NOON, "valid_until": NOON},),
    "ck_authority_grant_delegation": lambda tenant: ({"delegated_by": "rita"}, {"delegated_from": tenant.id_in("authority_grant")}),
    "ck_authority_grant_second_person": lambda _: (
        {"subject": "rita", "granted_by": "rita"},
        {"subject": "rita", "confirmed_by": "rita"},
        {"granted_by": "admin", "confirmed_by": "admin"},
    ),
    "ck_price_book_entry_amounts": lambda _: ({"list_price": -0.01}, {"unit_cost": -0.01}),
    "ck_approval_decision_basis": lambda tenant: (
        {"decision": "REUSED"},
        {"decision": "APPROVE", "basis_decision_id": tenant.id_in("approval_decision")},
    ),
    "ck_fulfillment_step_compensation": lambda tenant: (
        {"kind": StepKind.COMPENSATE},
        {"compensates_step_id": tenant.work.step("CHECK_SERVICEABILITY").id},
    ),
    "ck_step_contradiction_answer": lambda _: ({"answer": "NEVER_HEARD_OF", "answered_at": NOON},),
    "ck_step_contradiction_answered": lambda _: ({"answer": "REVERSED"}, {"answered_at": NOON}),
    "ck_fallout_case_owner": lambda _: ({"owner_user_id": "anna"}, {"status": "ON_HOLD"}),
    "ck_fallout_case_lease": lambda _: ({"claim_expires_at": NOON}, {"status": "IN_PROGRESS", "owner_user_id": "anna"}),
    "ck_fallout_note_confirmation": lambda _: ({"kind": "CONFIRMATION"}, {"external_ref": "r-1"}),
}
"""Values of which each breaks a CHECK; a CHECK on a list of words is broken by an unknown word."""
NOON = "2026-11-24T12:00:00Z"
FITTING: dict[str, Changes] = {
    "fk_approval_decision_tenant_id_basis_decision_id": {"decision": "REUSED"},
    "fk_authority_grant_tenant_id_delegated_from": {"delegated_by": "rita"},
    "fk_fulfillment_step_tenant_id_compensates_step_id": {"kind": StepKind.COMPENSATE},
}
"""Values that a CHECK requires beside the key of a foreign row."""


def write(table: Table, tenant: PopulatedTenant, changes: Changes, *, keep: Collection[str] = ()) -> None:
    """Insert a copy of a row; `keep` are the columns that it shares with its original."""
    new = {"id": uuid4(), **fresh(table, tenant)}
    row = {**{name: value for name, value in new.items() if name not in keep}, **changes}
    if table.name == "quote" and "id" in row:
        write_quote(tenant, row)
    else:
        tenant.copy(table, row)


def write_quote(tenant: PopulatedTenant, row: Changes) -> None:
    """Insert a new quote, which needs a revision of its own."""
    revision, revision_id = METADATA.tables["quote_revision"], uuid4()
    of_its_own = {**fresh(revision, tenant), "id": revision_id, "quote_id": row["id"]}
    tenant.copy(METADATA.tables["quote"], {"current_revision_id": revision_id, **row}, (revision, of_its_own))


def fresh(table: Table, tenant: PopulatedTenant) -> Changes:
    return FRESH[table.name](tenant) if table.name in FRESH else {}
