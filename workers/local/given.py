"""Checks the services that the stack does not start because their address is given: they respond, and we can use them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlencode

import psycopg
from sqlalchemy.engine import URL, make_url

from domain.texts import lines_of
from workers.local.camunda import EngineDatabase, check_login
from workers.local.errors import StackError
from workers.runtime.environment import Environment
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.setting_kinds import DATABASE
from workers.runtime.transport import ClientTls

TIMEOUT_SECONDS = 5
OLDEST_POSTGRES = 15
SAME_IN_JDBC = frozenset({"sslmode", "sslrootcert", "sslcert", "sslkey"})
"""Parameters of an address that libpq and Java's driver understand alike. A key that both can read is PKCS #8 in DER form."""


def check_database(variable: str, text: str) -> URL:
    """Read the address that the variable gives. Raises StackError when no usable PostgreSQL responds there."""
    if fault := DATABASE.fault(text):
        raise StackError(f"{variable} {fault}")
    url = make_url(text)
    where = f"{url.host}:{url.port or 5432}/{url.database} as {url.username}"
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        with psycopg.connect(address, connect_timeout=TIMEOUT_SECONDS) as connection:
            version = connection.info.server_version // 10000
    except psycopg.OperationalError as error:
        # A host may have several addresses, and the error has a line for each; one line is enough.
        reason = lines_of(error)[-1]
        raise StackError(f"Cannot open the database {where} ({reason}): start it or correct {variable}, or unset it") from error
    if version < OLDEST_POSTGRES:
        raise StackError(f"The database {where} is PostgreSQL {version}: use {OLDEST_POSTGRES} or later, or unset {variable}")
    return url


def check_kafka(environment: Mapping[str, str]) -> None:
    """Raise StackError when no broker responds at Q2O_KAFKA, or when it and this process do not accept each other."""
    from workers.runtime.kafka import KafkaUntrustedError, is_reachable

    kafka = KafkaAccess.of(Environment(environment))
    try:
        responds = is_reachable(kafka, timedelta(seconds=TIMEOUT_SECONDS))
    except KafkaUntrustedError as error:
        raise StackError(str(error)) from error
    if not responds:
        raise StackError(f"No Kafka broker responds at {kafka.bootstrap}: start it, correct Q2O_KAFKA, or unset it")


def check_engine(environment: Mapping[str, str]) -> None:
    """Raise StackError when no engine responds at Q2O_ENGINE_URL, or when it does not accept the user."""
    missing = [name for name in ("Q2O_ENGINE_USER", "Q2O_ENGINE_PASSWORD") if not environment.get(name)]
    if missing:
        raise StackError(f"Q2O_ENGINE_URL is given without {' and '.join(missing)}: set them too")
    tls = ClientTls.of_url("engine", Environment(environment))
    check_login(environment["Q2O_ENGINE_URL"], environment["Q2O_ENGINE_USER"], environment["Q2O_ENGINE_PASSWORD"], tls)


def engine_database(text: str) -> EngineDatabase:
    """Check the engine's own database at Q2O_ENGINE_DATABASE_URL, and give its address the way JDBC needs it."""
    url = check_database("Q2O_ENGINE_DATABASE_URL", text)
    if unknown := sorted(set(url.query) - SAME_IN_JDBC):
        raise StackError(
            f"Q2O_ENGINE_DATABASE_URL has {', '.join(unknown)}, but only {', '.join(sorted(SAME_IN_JDBC))} mean the same to Java: remove it"
        )
    parameters = f"?{urlencode(dict(url.query))}" if url.query else ""
    return EngineDatabase(
        jdbc_url=f"jdbc:postgresql://{url.host}:{url.port or 5432}/{url.database}{parameters}",
        user=url.username or "",
        password=str(url.password or ""),
    )
