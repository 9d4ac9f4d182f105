"""Benchmarks that need an engine use the doors and processes of the integration tests."""

from __future__ import annotations

import pytest

from tests.support.engines import deploy, doors
from workers.runtime.logs import configure_logs

__all__ = ["deploy", "doors"]


@pytest.fixture(scope="session", autouse=True)
def nothing_is_logged() -> None:
    """Log nothing: a benchmark prints its figures, and a line for each of a thousand repairs would hide them."""
    configure_logs("benchmark", level="CRITICAL")
