"""Every constraint of the models, and for each a row, inserted by hand, that only this constraint refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import CheckConstraint, Constraint, ForeignKeyConstraint, Index, PrimaryKeyConstraint, Table, UniqueConstraint
from sqlalchemy.dialects import postgresql

from domain.schema import METADATA
from tests.mutants.layers import POLICY, Kept, off
from tests.mutants.populated_tenant import PopulatedTenant, of
from tests.mutants.rows import BROKEN, FITTING, SAME, Changes, fresh, write
from tests.mutants.telling import refused_by

TABLES = tuple(sorted(METADATA.tables))
EVIDENCE = (
    "configuration_result",
    "price_result",
    "price_book_version",
    "price_book_entry",
    "approval_decision",
    "quote_document",
    "quote_acceptance",
    "transition_log",
    "conflict_log",
    "external_callback_conflict",
    "reconciliation_finding",
    "fallout_note",
    "workflow_instance",
    "shown_form",
    "resolution_proposal",
    "step_repair",
)
"""The tables that a trigger keeps append-only."""
DELETED_WHEN_OLD = ("conflict_log", "reconciliation_finding")
"""Those whose rows may be deleted by age."""
NOT_ITS_OWN = ("quote_id", "current_revision_id", "price_result_id", "approval_request_id")
"""Columns that name a row of another offer, each with the revision that the row should belong to."""
WORDS = re.compile(r"^(\w+) IN \(")


def name_of(constraint: Constraint | Index) -> str:
    """A constraint's name in the catalogue, where long names are shortened."""
    preparer = postgresql.dialect().identifier_preparer  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    formatted = preparer.format_index(constraint) if isinstance(constraint, Index) else preparer.format_constraint(constraint)
    return str(formatted)


def modelled() -> Iterator[tuple[Table, Any]]:
    """List every constraint and unique index of the models."""
    for table in (METADATA.tables[name] for name in TABLES):
        for constraint in (*table.constraints, *(index for index in table.indexes if index.unique)):
            yield table, constraint


def protected_by(table: Table, constraint: Constraint | Index) -> str:
    """Say in a sentence what a constraint protects."""
    match constraint:
        case ForeignKeyConstraint():
            columns = " and ".join(name for name in constraint.column_keys if name != "tenant_id")
            return f"`{table.name}`: {columns} name a row of `{constraint.referred_table.name}`, of the same tenant."
        case CheckConstraint():
            return f"`{table.name}`: {' '.join(str(constraint.sqltext).split())}."
        case PrimaryKeyConstraint() | UniqueConstraint():
            return f"`{table.name}` has one row for {_keys(constraint)}."
        case Index():
            return f"`{table.name}` has one row for {_keys(constraint)} where {constraint.dialect_options['postgresql']['where']}."
    raise AssertionError(constraint)


def _keys(constraint: Any) -> str:
    return ", ".join(column.name for column in constraint.columns)


def a_row_that_names_a_row_of_another_tenant(table: Table, constraint: ForeignKeyConstraint, tenant: PopulatedTenant) -> None:
    [column] = (name for name in constraint.column_keys if name != "tenant_id")
    foreign = tenant.id_in(constraint.referred_table.name, tenant.neighbour_or_fail)
    write(table, tenant, {**FITTING.get(name_of(constraint), {}), column: foreign})


def a_process_that_an_unknown_one_has_called(tenant: PopulatedTenant) -> None:
    write(METADATA.tables["workflow_instance"], tenant, {"caller_instance_id": tenant.neighbour_or_fail.instance_id})


def a_decision_that_names_the_form_of_another_signature(tenant: PopulatedTenant) -> None:
    [form_id] = tenant.forms_of(tenant.signed)
    write(METADATA.tables["approval_decision"], tenant, {"requirement_id": tenant.unsigned, "shown_form_id": form_id})


def a_row_that_names_the_form_of_a_signature(table: str, tenant: PopulatedTenant) -> None:
    [form_id] = tenant.forms_of(tenant.signed)
    write(METADATA.tables[table], tenant, {"shown_form_id": form_id})


def a_note_about_the_proposal_of_another_case(tenant: PopulatedTenant) -> None:
    foreign = tenant.id_in("resolution_proposal", tenant.neighbour_or_fail)
    write(METADATA.tables["fallout_note"], tenant, {"proposal_id": foreign})


def a_row_that_names_a_row_of_another_offer(table: Table, constraint: ForeignKeyConstraint, tenant: PopulatedTenant) -> None:
    """Name the offer in approval, with one row of the accepted offer."""
    other = {**of(tenant.accepted), "current_revision_id": tenant.accepted.revision_id}
    [column] = (name for name in NOT_ITS_OWN if name in constraint.column_keys)
    write(table, tenant, {**of(tenant.in_approval), column: other[column]})


def an_order_of_what_was_not_accepted(tenant: PopulatedTenant) -> None:
    write(METADATA.tables["sales_order"], tenant, of(tenant.in_approval))


def a_row_that_breaks_the_check(table: Table, constraint: CheckConstraint, tenant: PopulatedTenant) -> None:
    broken = BROKEN[name_of(constraint)](tenant) if name_of(constraint) in BROKEN else (unknown_word(constraint),)
    tenant.each_refused(*(partial(write, table, tenant, changes) for changes in broken))


def unknown_word(constraint: CheckConstraint) -> Changes:
    [column] = WORDS.findall(str(constraint.sqltext))
    return {column: "NEVER_HEARD_OF"}


def a_second_row_of_the_same_key(table: Table, constraint: Any, tenant: PopulatedTenant) -> None:
    same = SAME[name_of(constraint)](tenant) if name_of(constraint) in SAME else {}
    write(table, tenant, same, keep=constraint.columns.keys())


def the_same_row_again_without_its_primary_key(table: Table, tenant: PopulatedTenant) -> None:
    """This key exists for foreign keys. It is wider than the primary key, which refuses first."""
    with off(tenant.connection, name_of(table.primary_key)):
        write(table, tenant, {}, keep=("id",))


def a_change_or_deletion_of_evidence(table: Table, tenant: PopulatedTenant) -> None:
    key = {"id": uuid4()} if "id" in table.columns else fresh(table, tenant)
    write(table, tenant, key)
    mine = " AND ".join(f"{name} = :{name}" for name in ("tenant_id", *key))
    for_each = [f"UPDATE {table.name} SET tenant_id = tenant_id WHERE {mine}", f"DELETE FROM {table.name} WHERE {mine}"]
    for_each = for_each[:1] if table.name in DELETED_WHEN_OLD else for_each
    tenant.each_refused(*(partial(tenant.change, statement, tenant_id=tenant.tenant_id, **key) for statement in for_each))


def a_query_for_the_rows_of_another_tenant(table: Table, tenant: PopulatedTenant) -> None:
    if tenant.by_hand(f"SELECT FROM {table.name} WHERE tenant_id = :neighbour", neighbour=tenant.neighbour_or_fail.tenant_id) == 0:
        raise Kept


def _story(table: Table, constraint: Constraint | Index) -> Callable[[PopulatedTenant], Any]:
    if name_of(constraint) in BY_HAND:
        return BY_HAND[name_of(constraint)]
    match constraint:
        case ForeignKeyConstraint() if len(constraint.column_keys) == 3:
            return partial(a_row_that_names_a_row_of_another_offer, table, constraint)
        case ForeignKeyConstraint():
            return partial(a_row_that_names_a_row_of_another_tenant, table, constraint)
        case CheckConstraint():
            return partial(a_row_that_breaks_the_check, table, constraint)
        case _:
            return partial(a_second_row_of_the_same_key, table, constraint)


BY_HAND: dict[str, Callable[[PopulatedTenant], Any]] = {
    "fk_workflow_instance_tenant_id_caller_instance_id": a_process_that_an_unknown_one_has_called,
    "fk_approval_decision_tenant_id_requirement_id_shown_form_id": a_decision_that_names_the_form_of_another_signature,
    "fk_resolution_proposal_tenant_id_case_id_shown_form_id": partial(
        a_row_that_names_the_form_of_a_signature, "resolution_proposal"
    ),
    "fk_fallout_case_tenant_id_id_shown_form_id": partial(a_row_that_names_the_form_of_a_signature, "fallout_case"),
    "fk_cancellation_request_tenant_id_id_shown_form_id": partial(a_row_that_names_the_form_of_a_signature, "cancellation_request"),
    "fk_fallout_note_tenant_id_case_id_proposal_id": a_note_about_the_proposal_of_another_case,
    "fk_sales_order_acceptance": an_order_of_what_was_not_accepted,
}
"""Foreign keys whose rows are found otherwise than by an id."""
LEANED_ON = {
    "uq_quote_revision_tenant_id_quote_id_id": METADATA.tables["quote_revision"],
    "uq_price_result_tenant_id_revision_id_id": METADATA.tables["price_result"],
    "uq_approval_request_tenant_id_quote_revision_id_id": METADATA.tables["approval_request"],
    "uq_shown_form_tenant_id_subject_id_id": METADATA.tables["shown_form"],
    "uq_resolution_proposal_tenant_id_case_id_id": METADATA.tables["resolution_proposal"],
}
MASKED = {
    **{name_of(leaning.primary_key): (name,) for name, leaning in LEANED_ON.items()},
    "fk_sales_order_tenant_id_quote_id_quote_revision_id": ("fk_sales_order_acceptance",),
}
CONSTRAINTS = {name_of(constraint): (table, constraint) for table, constraint in modelled()}
APPEND_ONLY = {f"{name}_append_only": METADATA.tables[name] for name in EVIDENCE}
POLICIES = {f"{POLICY}{name}": METADATA.tables[name] for name in TABLES}
for name, (owner, rule) in CONSTRAINTS.items():
    if name not in LEANED_ON:
        refused_by(name, masked_by=MASKED.get(name, ()))(_story(owner, rule))
for name, owner in LEANED_ON.items():
    refused_by(name)(partial(the_same_row_again_without_its_primary_key, owner))
for name, owner in APPEND_ONLY.items():
    refused_by(name)(partial(a_change_or_deletion_of_evidence, owner))
for name, owner in POLICIES.items():
    refused_by(name)(partial(a_query_for_the_rows_of_another_tenant, owner))
