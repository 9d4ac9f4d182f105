"""What a process does not know it does not show: a zero of the wrong process would set off alerts, or keep them from being set off."""

from __future__ import annotations

import subprocess
import sys
from math import isnan

import pytest

SHOWN = """
from prometheus_client import REGISTRY
import workers.runtime.metrics
for family in REGISTRY.collect():
    if family.type == "gauge" and family.name.startswith("q2o_"):
        for sample in family.samples:
            print(sample.name, sample.value)
"""


@pytest.fixture(scope="module")
def shown() -> dict[str, float]:
    """The gauges of a process that has set none of them."""
    told = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, text=True, check=True).stdout
    return {name: float(value) for name, value in (line.split() for line in told.splitlines())}


def test_a_gauge_that_nobody_has_set_is_no_number(shown: dict[str, float]) -> None:
    assert [name for name, value in shown.items() if not isnan(value)] == []
    assert "q2o_outbox_oldest_unpublished_timestamp_seconds" in shown
