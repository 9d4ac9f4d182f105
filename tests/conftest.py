"""Fixtures that every test may ask for; a service starts when the first test asks for it, and never otherwise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.support.evidence import record
from tests.support.in_process import keeping_logs, log_plainly
from tests.support.scheduling import LongestFirst

# The same examples every time, and no judgement about the speed of a machine that may be busy.
settings.register_profile("steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
log_plainly()

pytest_plugins = [
    "tests.support.tls",
    "tests.support.services",
    "tests.support.database",
    "tests.support.offers",
    "tests.support.http",
    "tests.support.topics",
    "tests.support.suite",
    "tests.support.redis",
    "tests.races.explorer.fixtures",
]


@pytest.fixture(autouse=True)
def logs_of_the_test_run() -> Iterator[None]:
    """Give the logs back after a test that runs a command: each command configures them."""
    with keeping_logs():
        yield


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst | None:
    """Hand out files of tests in the order of what they cost."""
    return LongestFirst(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Keep how many tests of each suite passed, and how long they took, as evidence."""
    passed: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        suite = Path(report.nodeid).parts[1]
        passed[suite] += 1
        seconds[suite] += report.duration
    for suite, number in passed.items():
        record(f"tests passed: {suite}", number, "tests", f"{seconds[suite]:.1f} s in their bodies")
