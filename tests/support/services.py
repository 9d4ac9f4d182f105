"""The real services of the tests, started at most once per run and only when a test asks for them.

Each lives on free ports in a temporary directory, so that runs side by side do not meet, and whatever address a
developer's shell holds is left alone: tests never touch a database that somebody else made. What a machine lacks is
skipped with its reason, and fails when CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from workers.local import postgres
from workers.local.errors import StackError
from workers.local.stack import LocalStack

# What may differ between machines without naming a service: which Java, and where the jars are kept.
_MACHINE = ("Q2O_JAVA", "Q2O_JAR_DIR", "XDG_CACHE_HOME")
# A killed server loses nothing by this, only a machine that loses its power does.
_WITHOUT_DISK_WAIT = {"fsync": "off", "full_page_writes": "off"}
# The whole stack of this run, once a test has asked for it.
_whole: list[LocalStack] = []


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """PostgreSQL alone: no engine waits for a lock there while a test counts those that do."""
    with local_stack(tmp_path_factory, {"postgres"}) as running:
        yield running


@pytest.fixture(scope="session")
def database(server: LocalStack) -> str:
    """Address of an empty database; its role may create further databases."""
    return server.postgres.database_url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """PostgreSQL, Kafka and the engine; `stack.environment` holds their addresses and credentials."""
    with local_stack(tmp_path_factory, {"postgres", "kafka", "engine"}) as running:
        _whole.append(running)
        yield running
        _whole.clear()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Kafka: the stack's where the stack is up, or one alone. Ask for `topics` to find the product's topics in it, and empty."""
    if _whole:
        yield _whole[0]
        return
    with local_stack(tmp_path_factory, {"kafka"}) as running:
        yield running


@contextmanager
def local_stack(directories: pytest.TempPathFactory, parts: Collection[str]) -> Iterator[LocalStack]:
    """Run the parts in a temporary directory; a machine that cannot is a skipped test, in CI a failed one."""
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
