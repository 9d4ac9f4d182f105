"""Checks of services that the stack does not start because their address is given: there, and usable by us."""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from workers.local.camunda import EngineDatabase, check_login
from workers.local.errors import StackError
from workers.local.kafka import reachable

TIMEOUT_SECONDS = 5
OLDEST_POSTGRES = 15


def check_database(variable: str, text: str) -> URL:
    """Read the address that the variable gives. Raises StackError when no usable PostgreSQL answers there."""
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StackError(
            f"{variable} is no database address: write it as postgresql+psycopg://user:password@host:port/database"
        ) from error
    where = f"{url.host}:{url.port or 5432}/{url.database} as {url.username}"
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, connect_timeout=TIMEOUT_SECONDS) as connection:
            version = connection.info.server_version // 10000
    except psycopg.OperationalError as error:
        # One server may have several addresses, each with its own line: the last one tells.
        reason = str(error).strip().splitlines()[-1]
        raise StackError(f"Cannot open the database {where} ({reason}): start it or correct {variable}, or unset it") from error
    if version < OLDEST_POSTGRES:
        raise StackError(f"The database {where} is PostgreSQL {version}: use {OLDEST_POSTGRES} or later, or unset {variable}")
    return url


def check_kafka(bootstrap: str) -> None:
    """Raise StackError when no broker answers."""
    if not reachable(bootstrap, TIMEOUT_SECONDS):
        raise StackError(f"No Kafka broker answers at {bootstrap}: start it, correct Q2O_KAFKA, or unset it")


def check_engine(environment: Mapping[str, str]) -> None:
    """Raise StackError when the engine at Q2O_ENGINE_URL is not there or does not know the user."""
    missing = [name for name in ("Q2O_ENGINE_USER", "Q2O_ENGINE_PASSWORD") if not environment.get(name)]
    if missing:
        raise StackError(f"Q2O_ENGINE_URL is given without {' and '.join(missing)}: set them too")
    check_login(environment["Q2O_ENGINE_URL"], environment["Q2O_ENGINE_USER"], environment["Q2O_ENGINE_PASSWORD"])


def engine_database(text: str) -> EngineDatabase:
    """Read the engine's own database at Q2O_ENGINE_DATABASE_URL, checked, as JDBC wants it."""
    url = check_database("Q2O_ENGINE_DATABASE_URL", text)
    return EngineDatabase(
        jdbc_url=f"jdbc:postgresql://{url.host}:{url.port or 5432}/{url.database}",
        user=url.username or "",
        password=str(url.password or ""),
    )
