"""How long to leave a question alone that was asked in vain: twice as long each time.

Kept in memory, because forgetting it costs one question too many and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta
from uuid import UUID

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(seconds=60)


class Patience:
    """When to ask again, by id."""

    def __init__(
        self, first: timedelta = FIRST_WAIT, longest: timedelta = LONGEST_WAIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest = first.total_seconds(), longest.total_seconds()
        self._clock = clock
        self._waits: dict[UUID, tuple[float, float]] = {}

    def is_over(self, key: UUID) -> bool:
        """Whether it may be asked again."""
        until, _ = self._waits.get(key, (0.0, 0.0))
        return self._clock() >= until

    def wait(self, key: UUID) -> None:
        """It was asked in vain: wait twice as long as the last time."""
        _, last = self._waits.get(key, (0.0, 0.0))
        pause = min(max(last * 2, self._first), self._longest)
        self._waits[key] = (self._clock() + pause, pause)

    def forget_all_but(self, keys: Collection[UUID]) -> None:
        """What is not asked about any more needs no patience."""
        self._waits = {key: wait for key, wait in self._waits.items() if key in keys}
