"""Waits for conditions, so that no test sleeps for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")
PATIENCE = 60.0  # seconds; only a failing test waits this long
FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.02, 0.2, 1.3
"""Seconds between two looks. Each look takes time from the work that the test waits for, so the pauses of a long wait grow."""


def eventually(probe: Callable[[], _Value], what: str, patience: float = PATIENCE) -> _Value:
    """Return the first true value of `probe`; fail with `what` when none comes in time."""
    end, pause = time.monotonic() + patience, FIRST_PAUSE
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(pause)
        pause = min(GROWTH * pause, LONGEST_PAUSE)
    return value
