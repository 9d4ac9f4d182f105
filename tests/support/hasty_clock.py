"""A database clock that runs fast, to find statements that compare different rows with different moments."""

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
    """Let `clock_timestamp` be `STEP` later at each call, until the end of the transaction, which must be rolled back."""
    connection.execute(text(_CLOCK))
    first, second = connection.execute(text("SELECT clock_timestamp(), clock_timestamp()")).one()
    assert second - first >= STEP
    connection.execute(text("ALTER SEQUENCE hasty.calls RESTART"))
