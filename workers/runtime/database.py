"""Connections to the product's database, with time limits that keep one slow command from stopping the others."""

from __future__ import annotations

import select
from typing import Any
from uuid import UUID

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DisconnectionError, OperationalError

from domain.store.isolation import ONLY_TENANT
from workers.runtime.environment import SettingError, variable
from workers.runtime.lock_waits import time_locks
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.setting_kinds import DATABASE

# A command that waits longer than this for a row raises TryAgain: transactions are short (docs/architecture.md#rules).
LOCK_TIMEOUT_MS = 5_000
# No statement of a command comes near this; a statement that takes longer is a fault.
STATEMENT_TIMEOUT_MS = 30_000
# A transaction that is left open delays vacuum, and every transaction that waits for its rows.
IDLE_IN_TRANSACTION_TIMEOUT_MS = 30_000


class DatabaseUnreachableError(Exception):
    """The database cannot be used; the text gives the address and the reason."""


def connect(database_url: Secret, process: str, pool_size: int = 10, only_tenant: UUID | None = None) -> Engine:
    """A pool for one service process, named so that `pg_stat_activity` shows which process has a connection.

    With `only_tenant`, the machinery of the process sees the rows of this tenant alone. An address in a file holds for every new connection
    as it is at that time. Raises SettingError when it is no address.
    """
    options = (
        f"-c lock_timeout={LOCK_TIMEOUT_MS} -c statement_timeout={STATEMENT_TIMEOUT_MS} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS}"
    )
    ours: dict[str, Any] = {
        "options": options,
        "application_name": f"q2o {process}",
        "connect_timeout": 5,
        "prepare_threshold": None,  # `domain.store.declared` prepares the statements that are worth it
    }
    engine = create_engine(parsed(reveal(database_url)), pool_size=pool_size, max_overflow=pool_size)
    if only_tenant:
        engine.update_execution_options(**{ONLY_TENANT: only_tenant})
    event.listen(engine, "checkout", _refuse_a_dead_connection)
    time_locks(engine)

    def use_the_current_address(dialect: Dialect, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        parameters.update({**dialect.create_connect_args(parsed(reveal(database_url)))[1], **ours})

    event.listen(engine, "do_connect", use_the_current_address)
    return engine


def parsed(text: str, name: str = "database_url") -> URL:
    """The parts of a database address. Raises SettingError, which names the setting."""
    if not DATABASE.accepts(text):
        raise SettingError(f"{variable(name)} is not {DATABASE.wanted}")
    return make_url(text)


def _refuse_a_dead_connection(connection: Any, _record: object, _proxy: object) -> None:
    # On an idle connection there is nothing to read but its end. A question to the server would be a round trip for every command.
    readable = select.poll()
    if not connection.closed:
        readable.register(connection.fileno(), select.POLLIN)
    if connection.closed or readable.poll(0):
        raise DisconnectionError


def require_reachable(engine: Engine) -> None:
    """Connect once before a process starts, so that the person who starts it learns of a wrong address. Raises DatabaseUnreachableError."""
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError as error:
        address = make_url(str(engine.url)).render_as_string(hide_password=True)
        reason = str(error.orig).strip().splitlines()[-1]
        raise DatabaseUnreachableError(f"cannot use the database {address}: {reason}. Check Q2O_DATABASE_URL") from error


def processes_at_work(connection: Connection) -> dict[str, int]:
    """Process -> the number of its sessions now, by the name that each process gives its sessions (`connect`)."""
    query = """SELECT split_part(application_name, ' ', 2) AS process, count(*) FROM pg_stat_activity
        WHERE application_name LIKE 'q2o %' GROUP BY process"""
    return {str(process): int(number) for process, number in connection.execute(text(query))}
