"""The schema's history, and the roles of the processes.

`migrate` brings a database to the newest version. Of two migrations that start together, one waits for the other.

This room needs `domain.schema`; only the command line and the tests need it. A released version is never edited.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from domain.migrations.roles import MetAnotherError, grant_rights, prepare_roles
from domain.rights import Login
from domain.store.isolation import EVERY_TENANT
from domain.store.transactions import transaction

# Any fixed number: every process that migrates this schema takes the same lock.
MIGRATION_LOCK = 4_202_046
# How often a migration may meet others that make the same roles: each time, another one is done.
_TRIES = 10
_NO_LOGINS: Mapping[str, Login] = MappingProxyType({})


def configuration() -> Config:
    """Alembic's configuration, from this folder."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def migrate(engine: Engine, logins: Mapping[str, Login] = _NO_LOGINS) -> None:
    """Bring roles, schema and rights to the newest version: schema and rights in one transaction, all of it or nothing.

    `logins`: the logins of processes, which are made when they are missing; others an administrator makes, as members of their groups.
    Raises RolesMissingError when roles are missing and this one may not make them.
    """
    _prepare_roles(engine, logins)
    config = configuration()
    with transaction(engine, EVERY_TENANT) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        grant_rights(connection)
        connection.commit()


def _prepare_roles(engine: Engine, logins: Mapping[str, Login]) -> None:
    for _ in range(_TRIES):
        with suppress(MetAnotherError), transaction(engine, EVERY_TENANT) as connection:
            prepare_roles(connection, logins)
            connection.commit()
            return
    raise MetAnotherError
