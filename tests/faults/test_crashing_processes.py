"""Every process dies again and again while orders are delivered, each time at a place where none has died yet.

This is a sample: `make faults` goes on until no new place is left.
"""

from __future__ import annotations

import pytest

from tests.faults.crashes.places import Places
from tests.faults.crashes.running import Aftermath, crash_processes
from tests.support.evidence import record
from workers.local.stack import LocalStack

pytestmark = [
    pytest.mark.stack,
    # A process that has died is a thread whose end nobody catches.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]
CRASHES = 40


@pytest.fixture(scope="module")
def aftermath(stack: LocalStack) -> Aftermath:
    places = Places(CRASHES)
    aftermath = crash_processes(stack, places)
    record("crashes of processes in the test suite", places.crashes, "crashes", f"{len(places.places)} places")
    return aftermath


def test_orders_reach_their_ends_although_every_process_dies(aftermath: Aftermath) -> None:
    assert aftermath.unexpected == []
    assert aftermath.places.crashes == CRASHES
