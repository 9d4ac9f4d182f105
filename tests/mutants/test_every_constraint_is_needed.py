"""Every constraint, unique index, trigger and policy is needed: for each there is a statement that only it refuses.

The completeness test reads PostgreSQL's catalogue, not the models, and fails for a constraint without a statement.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from domain.schema import METADATA
from tests.mutants.constraints import APPEND_ONLY, CONSTRAINTS, POLICIES, TABLES
from tests.mutants.layers import FUNCTIONS
from tests.mutants.populated_tenant import PopulatedTenant
from tests.mutants.rows import write
from tests.mutants.stories import commands_kept_by_constraints, delivery_kept_by_constraints, hand_typed
from tests.mutants.telling import COMMANDS, STORIES, show_that_it_is_needed
from tests.mutants.trial import Trial
from tests.support.evidence import record

LOADED = (hand_typed, commands_kept_by_constraints, delivery_kept_by_constraints)
MODELLED = {*CONSTRAINTS, *APPEND_ONLY, *FUNCTIONS, *POLICIES}
CATALOGUE = text("""
    SELECT conname FROM pg_constraint WHERE conrelid::regclass::text = ANY(:tables) AND contype IN ('p', 'u', 'c', 'f', 'x')
    UNION SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND indrelid::regclass::text = ANY(:tables)
    UNION SELECT tgname FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY(:tables)
    UNION SELECT 'row level security of ' || relname FROM pg_class WHERE relforcerowsecurity AND relname = ANY(:tables)
""")


OF_NO_TENANT = {"pk_consumer_inbox"}
"""The outbox makes an event's id, so no tenant can choose the id of another tenant's event."""


@pytest.fixture(scope="module")
def tenant(transaction: Connection) -> PopulatedTenant:
    """Make a tenant with a row in every table, and its neighbour; every story is rolled back."""
    return PopulatedTenant(transaction, PopulatedTenant(transaction))


def test_every_constraint_of_the_catalogue_has_a_statement_that_it_refuses(transaction: Connection) -> None:
    found = set(transaction.scalars(CATALOGUE, {"tables": list(TABLES)}))

    assert found == MODELLED
    assert set(STORIES) >= found


@pytest.mark.parametrize("table", TABLES)
def test_a_fresh_copy_of_a_row_is_accepted(table: str, tenant: PopulatedTenant) -> None:
    """Otherwise a statement of the tests below could be refused for another reason than its own."""
    with tenant.connection.begin_nested() as savepoint:
        write(METADATA.tables[table], tenant, {})
        savepoint.rollback()


@pytest.mark.parametrize("constraint", sorted(MODELLED))
def test_only_the_constraint_refuses_its_statement(constraint: str, tenant: PopulatedTenant) -> None:
    show_that_it_is_needed(constraint, STORIES[constraint], tenant)


@pytest.mark.parametrize("constraint", sorted(COMMANDS))
def test_only_the_constraint_prevents_the_harm_once_the_layers_before_it_are_removed(constraint: str, trial: Trial) -> None:
    show_that_it_is_needed(constraint, COMMANDS[constraint], trial)


def test_every_key_begins_with_the_tenant() -> None:
    """Then no row of one tenant can collide with a row of another one."""
    for name, (_, constraint) in CONSTRAINTS.items():
        if not name.startswith("ck_") and name not in OF_NO_TENANT:
            assert next(iter(constraint.columns)).name == "tenant_id", name


def test_the_number_of_constraints_is_evidence() -> None:
    record("constraints with a mutant killed", len(MODELLED), "constraints")
