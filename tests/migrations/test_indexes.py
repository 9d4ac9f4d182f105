"""Every foreign key has an index that finds its rows: to delete the row that it names, and to read what belongs to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from sqlalchemy import ForeignKeyConstraint, PrimaryKeyConstraint, Table, UniqueConstraint

from domain.schema import METADATA

WITHOUT: Mapping[tuple[str, str], str] = {
    ("authority_grant", "delegated_from"): "no grant is ever deleted, and nothing asks for the delegations of a grant",
}
"""Table and column of a foreign key without an index -> why it needs none."""
READ_BY = (
    ("sales_order", "quote_id"),
    ("provider_attempt", "step_id"),
    ("external_callback_record", "step_id"),
    ("fulfillment_step_dependency", "depends_on_step_id"),
    ("workflow_instance", "subject_id"),
)
"""What reads look for within a tenant, foreign key or not."""


def keys() -> Iterator[tuple[Table, ForeignKeyConstraint]]:
    for table in METADATA.sorted_tables:
        for constraint in table.constraints:
            if isinstance(constraint, ForeignKeyConstraint):
                yield table, constraint


def beginnings(table: Table) -> list[tuple[str, str]]:
    """The first two columns of each index that has every row."""
    whole = [index for index in table.indexes if index.dialect_options["postgresql"]["where"] is None]
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
    columns = [[column.name for column in each.columns] for each in (*whole, *unique)]
    return [(names[0], names[1]) for names in columns if len(names) > 1]


@pytest.mark.parametrize(("table", "key"), list(keys()), ids=lambda each: str(each.name))
def test_the_columns_of_a_foreign_key_lead_an_index(table: Table, key: ForeignKeyConstraint) -> None:
    own = {name for name in key.column_keys if name != "tenant_id"}

    is_led = any(first == "tenant_id" and second in own for first, second in beginnings(table))

    assert is_led != any((table.name, name) in WITHOUT for name in own)


@pytest.mark.parametrize(("table", "column"), READ_BY)
def test_what_a_read_looks_for_leads_an_index(table: str, column: str) -> None:
    assert ("tenant_id", column) in beginnings(METADATA.tables[table])
