"""Waits for conditions, so that no test sleeps for a fixed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_Value = TypeVar("_Value")
PATIENCE = 60.0  # seconds; only a failing test waits this long


def eventually(probe: Callable[[], _Value], what: str, patience: float = PATIENCE) -> _Value:
    """Return the first true value of `probe`; fail with `what` when none comes in time."""
    end = time.monotonic() + patience
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"never happened: {what}")
        time.sleep(0.02)
    return value
