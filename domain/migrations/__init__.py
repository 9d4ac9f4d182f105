"""The schema's history. `migrate` brings a database to the newest version; of two that start together one waits for the other.

This room needs `domain.schema`; only the command line and the tests need it. A released version is never edited.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from domain.store.isolation import EVERY_TENANT, name_tenant

# Any fixed number: every process that migrates this schema takes the same lock.
MIGRATION_LOCK = 4_202_046


def configuration() -> Config:
    """Alembic's configuration, from this folder."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest version, in one transaction: all of it, or nothing."""
    config = configuration()
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
        name_tenant(connection, EVERY_TENANT)
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
