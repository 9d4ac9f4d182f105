"""A clock of the database that goes on fast, to find statements that compare one row with another moment than the next."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, text

STEP = timedelta(seconds=40)
_CLOCK = f"""
CREATE SCHEMA hasty;
CREATE SEQUENCE hasty.calls;
CREATE FUNCTION hasty.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS $$ SELECT pg_catalog.clock_timestamp() + nextval('hasty.calls') * interval '{STEP.seconds} seconds' $$;
SET LOCAL search_path = hasty, public, pg_catalog;
"""


def let_the_clock_hasten(connection: Connection) -> None:
    """Until the end of the transaction, which must be rolled back, `clock_timestamp` is `STEP` later each time that somebody reads it."""
    connection.execute(text(_CLOCK))
    first, second = connection.execute(text("SELECT clock_timestamp(), clock_timestamp()")).one()
    assert second - first >= STEP
    connection.execute(text("ALTER SEQUENCE hasty.calls RESTART"))
