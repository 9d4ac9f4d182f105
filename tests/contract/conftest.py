"""Fixtures of the tests of models in an engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.models import TENANT
from workers.deployment import DEPLOYMENT, model_files
from workers.local.stack import LocalStack
from workers.runtime.engine import Engine


@pytest.fixture(scope="module")
def engine(stack: LocalStack) -> Iterator[Engine]:
    """Give a door to the engine, with the models of this checkout deployed."""
    environment = stack.environment
    engine = Engine(environment["Q2O_ENGINE_URL"], environment["Q2O_ENGINE_USER"], environment["Q2O_ENGINE_PASSWORD"])
    engine.deploy(TENANT, DEPLOYMENT, model_files())
    yield engine
    engine.close()
