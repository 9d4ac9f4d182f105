"""The migrations build exactly the schema of the models: columns, constraints, indexes, triggers, sequences, functions."""

from __future__ import annotations

from sqlalchemy import Engine, text

from domain.migrations import migrate
from domain.schema import METADATA

# `alembic check` does not see a changed CHECK constraint or a trigger; the catalogue does.
CATALOGUE = {
    "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity FROM information_schema.columns "
    "WHERE table_schema = 'public'",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace",
    "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "sequences": "SELECT sequence_name, data_type, start_value, increment FROM information_schema.sequences",
    "policies": "SELECT tablename, policyname, permissive, roles::text, cmd, qual, with_check FROM pg_policies WHERE schemaname = 'public'",
    "row security": "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace",
    "functions": "SELECT proname, prosrc, prosecdef, proconfig::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
}

LEFT_BEHIND = "ALTER TABLE fulfillment_step ADD COLUMN required BOOLEAN DEFAULT true NOT NULL"
"""Columns that no code uses any more, but pods of the release before still write: a later release drops them."""


def catalogue(engine: Engine) -> dict[str, set[tuple[object, ...]]]:
    with engine.connect() as connection:
        found = {name: {tuple(row) for row in connection.execute(text(query))} for name, query in CATALOGUE.items()}
    return {name: {row for row in rows if row[0] != "alembic_version"} for name, rows in found.items()}


def test_migrations_and_models_give_the_same_catalogue(two_databases: tuple[Engine, Engine]) -> None:
    migrated, modelled = two_databases

    migrate(migrated)
    METADATA.create_all(modelled)

    with modelled.begin() as connection:
        connection.execute(text(LEFT_BEHIND))

    assert catalogue(migrated) == catalogue(modelled)
    assert catalogue(migrated)["triggers"]


def test_a_changed_check_constraint_shows_in_the_catalogue(two_databases: tuple[Engine, Engine]) -> None:
    migrated, modelled = two_databases
    migrate(migrated)
    METADATA.create_all(modelled)

    with migrated.begin() as connection:
        connection.execute(text("ALTER TABLE quote_line DROP CONSTRAINT ck_quote_line_quantity"))
        connection.execute(text("ALTER TABLE quote_line ADD CONSTRAINT ck_quote_line_quantity CHECK (quantity >= 0)"))

    assert catalogue(migrated) != catalogue(modelled)


def test_migrating_again_changes_nothing(two_databases: tuple[Engine, Engine]) -> None:
    migrated, _ = two_databases
    migrate(migrated)
    before = catalogue(migrated)

    migrate(migrated)

    assert catalogue(migrated) == before


def test_every_table_of_a_tenant_has_row_level_security(two_databases: tuple[Engine, Engine]) -> None:
    migrated, _ = two_databases
    migrate(migrated)

    closed = {row[0] for row in catalogue(migrated)["policies"]}

    assert closed == set(METADATA.tables) == {row[0] for row in catalogue(migrated)["row security"] if row[1] and row[2]}
