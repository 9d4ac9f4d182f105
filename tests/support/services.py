"""The real services of the tests, started at most once per run and only when a test asks for them.

Each has free ports and a temporary directory, so that runs at the same time do not meet. Addresses in a developer's shell are
ignored: tests never touch a database that somebody else made. Where the machine lacks a part, its tests are skipped with the
reason; with CI=true they fail.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import psycopg
import pytest
from sqlalchemy import make_url

from tests.support.brokers import demanding_listeners
from tests.support.tls import Authority
from workers.local import postgres
from workers.local.credentials import load_credentials
from workers.local.errors import StackError
from workers.local.stack import LocalStack

# What may differ between machines without naming a service: which Java, and where the jars are kept.
_MACHINE = ("Q2O_JAVA", "Q2O_JAR_DIR", "XDG_CACHE_HOME")
# A server that is killed loses nothing by this; only a power failure would lose rows.
_WITHOUT_DISK_WAIT = {"fsync": "off", "full_page_writes": "off"}
# The whole stack of this run, once a test has asked for it.
_whole: list[LocalStack] = []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Start PostgreSQL alone. Tests count the sessions that wait for a lock, so no engine may use this server."""
    with local_stack(tmp_path_factory, {"postgres"}) as running:
        yield running


@pytest.fixture(scope="session")
def database(server: LocalStack) -> str:
    """Address of an empty database; its role may create further databases, and silence their triggers."""
    return open_to_tests(server)


def open_to_tests(server: LocalStack) -> str:
    """Grant the owner's role what tests and explorers need on their own server; returns its address."""
    password = load_credentials(server.data_dir / "credentials.json").postgres
    administrator = make_url(server.postgres.database_url).set(
        drivername="postgresql", username="postgres", password=password, database="postgres"
    )
    with psycopg.connect(administrator.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute("GRANT SET ON PARAMETER session_replication_role, deadlock_timeout TO q2o")
        connection.execute("GRANT pg_signal_backend, pg_checkpoint TO q2o")  # to end the sessions of processes, and for a benchmark
    return server.postgres.database_url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[LocalStack]:
    """PostgreSQL, Kafka and the engine; `stack.environment` holds their addresses and credentials."""
    with demanding_listeners(authority), local_stack(tmp_path_factory, {"postgres", "kafka", "engine"}) as running:
        _whole.append(running)
        yield running
        _whole.clear()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[LocalStack]:
    """Give Kafka: the stack's when the stack is up, otherwise one alone. Ask for `topics` to have the product's topics, and empty."""
    if _whole:
        yield _whole[0]
        return
    with demanding_listeners(authority), local_stack(tmp_path_factory, {"kafka"}) as running:
        yield running


@contextmanager
def local_stack(directories: pytest.TempPathFactory, parts: Collection[str]) -> Iterator[LocalStack]:
    """Run the parts in a temporary directory; where they cannot start, skip the test, or fail it in CI."""
    environment = {name: os.environ[name] for name in _MACHINE if name in os.environ}
    running = LocalStack(directories.mktemp("stack"), parts, environment)
    try:
        with patch.dict(postgres.SETTINGS, _WITHOUT_DISK_WAIT):
            running.__enter__()
    except StackError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the local stack cannot start here: {error}")
    try:
        yield running
    finally:
        running.__exit__(None, None, None)
