"""Whether a process can work with the database: it is there, takes writes, keeps the limits of a transaction and prepared statements.

A process asks when it starts, and whenever the platform asks whether it is ready.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, Row, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from domain.store.declared import run
from domain.store.isolation import EVERY_TENANT, limits_of
from domain.store.transactions import transaction
from domain.texts import lines_of
from workers.runtime.outages import OutageError, UntrustedError, is_waited_out, needs_a_person, sqlstate_of

OLDEST_POOLER = "PgBouncer 1.21"
_FORGETFUL = (
    f"a pooler before the database does not keep prepared statements: use {OLDEST_POOLER} or newer, with pool_mode = transaction and "
    "max_prepared_statements above 0 (docs/database.md), or connect to the database itself"
)
STATEMENT_MIXED_UP = frozenset({"26000", "42P05"})
"""SQLSTATEs of a pooler that gave us a session without our prepared statements, or with those of another process."""
SECRET_PARAMETERS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")
_NAMED = "variable of the address"
_STATE = text("""
SELECT current_setting('transaction_read_only')::boolean AS is_read_only,
    pg_backend_pid() AS session,
    EXISTS (SELECT FROM pg_prepared_statements WHERE name LIKE 'declared%') AS has_our_name,
    (SELECT json_object_agg(name, setting::integer) FROM pg_settings WHERE name LIKE '%\\_timeout' AND unit = 'ms') AS limits
""")


class DatabaseUnreachableError(OutageError):
    """The database cannot be used now; the text gives the address and the reason."""


class DatabaseUntrustedError(DatabaseUnreachableError, UntrustedError):
    """The database refuses this process, or is refused: a person has to correct the address."""


class DatabaseUnfitError(Exception):
    """The database, or a pooler before it, does not do what the suite relies on; the text says what to change."""


def named(engine: Engine, variable: str) -> Engine:
    """Remember the variable that gave the engine its address, so that errors can name it. Returns the same engine."""
    engine.update_execution_options(**{_NAMED: variable})
    return engine


def require_fit(engine: Engine, *, only_to_read: bool = False) -> None:
    """Open a transaction as every command does, and look at what it has got. A standby is good enough `only_to_read`.

    Raises DatabaseUnreachableError when the database is away or read-only, DatabaseUntrustedError, DatabaseUnfitError.
    """
    try:
        with transaction(engine, EVERY_TENANT) as connection:
            state = run(connection, _STATE, {}).one()
            if state.is_read_only and not only_to_read:
                connection.invalidate()  # the next look finds the server that takes writes by then
                raise DatabaseUnreachableError(f"the database {_address(engine)} is read-only: it is a standby")
            driver = connection.connection.driver_connection
            _require_statements_kept(state, driver.info.backend_pid)  # type: ignore[union-attr]  # psycopg's
            _require_limits(state, limits_of(connection))
    except SQLAlchemyError as error:
        if sqlstate_of(error) in STATEMENT_MIXED_UP:
            raise DatabaseUnfitError(_FORGETFUL) from error
        if not is_waited_out(error):
            raise
        kind = DatabaseUntrustedError if needs_a_person(error) else DatabaseUnreachableError
        reason = lines_of(error)[-1]  # a host may have several addresses, with a line for each
        variable = engine.get_execution_options().get(_NAMED, "Q2O_DATABASE_URL")
        raise kind(f"cannot use the database {_address(engine)}: {reason}. Check {variable}") from error


def _require_statements_kept(state: Row[Any], session: int) -> None:
    # A pooler gives us a number of its own. One that keeps prepared statements gives them names of its own, too.
    if state.session != session and state.has_our_name:
        raise DatabaseUnfitError(_FORGETFUL)


def _require_limits(state: Row[Any], wanted: Mapping[str, int]) -> None:
    for name, milliseconds in wanted.items():
        if state.limits.get(name) != milliseconds:
            raise DatabaseUnfitError(
                f"{name} is {state.limits.get(name)} ms in a transaction that has set it to {milliseconds} ms, so one command could stop all "
                "others: let a pooler before the database give each transaction one session (docs/database.md)"
            )


def _address(engine: Engine) -> str:
    return make_url(str(engine.url)).difference_update_query(SECRET_PARAMETERS).render_as_string(hide_password=True)
