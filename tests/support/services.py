"""The real services of the tests, started at most once per run and only when a test asks for them.

Each lives on free ports in a temporary directory, so that runs side by side do not meet, and whatever address a
developer's shell holds is left alone: tests never touch a database that somebody else made. What a machine lacks is
skipped with its reason, and fails when CI=true.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import pytest

from workers.local.errors import StackError
from workers.local.stack import LocalStack

# What may differ between machines without naming a service: which Java, and where the jars are kept.
_MACHINE = ("Q2O_JAVA", "Q2O_JAR_DIR", "XDG_CACHE_HOME")


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an empty database on a server of its own; its role may create further databases."""
    with local_stack(tmp_path_factory, {"postgres"}) as running:
        yield running.postgres.database_url


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """PostgreSQL, Kafka and the engine; `stack.environment` holds their addresses and credentials."""
    with local_stack(tmp_path_factory, {"postgres", "kafka", "engine"}) as running:
        yield running


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Kafka alone; ask for `topics` to find the product's topics in it, and empty."""
    with local_stack(tmp_path_factory, {"kafka"}) as running:
        yield running


@contextmanager
def local_stack(directories: pytest.TempPathFactory, parts: Collection[str]) -> Iterator[LocalStack]:
    """Run the parts in a temporary directory; a machine that cannot is a skipped test, in CI a failed one."""
    environment = {name: os.environ[name] for name in _MACHINE if name in os.environ}
    running = LocalStack(directories.mktemp("stack"), parts, environment)
    try:
        running.__enter__()
    except StackError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"the local stack cannot start here: {error}")
    try:
        yield running
    finally:
        running.__exit__(None, None, None)
