"""Shows how much is open, in which state and since when, as metrics of this process.

It finds and repairs nothing. It stands here because one process should ask, at an interval, and reconciliation may look at every tenant. When
several reconcilers run, each shows the same: take the maximum.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from math import nan

from sqlalchemy import Engine as Database

from domain.auditing.open_items import open_items
from domain.store.unit_of_work import housekeeping
from workers.runtime.metrics import OPEN_ITEMS, OPEN_ITEMS_OLDEST

INTERVAL = timedelta(seconds=15)  # as often as Prometheus usually scrapes


class Gauges:
    """Asks at most once in an interval."""

    kind = "gauges"

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._asked_at = -INTERVAL.total_seconds()

    def sweep(self) -> int:
        """Read what is open if it is time to; nothing is changed. Raises the database's errors."""
        if self._clock() - self._asked_at < INTERVAL.total_seconds():
            return 0
        with housekeeping(self._database) as connection:
            found = open_items(connection)
        for what, state, count, oldest in found:
            OPEN_ITEMS.labels(what, state).set(count)
            OPEN_ITEMS_OLDEST.labels(what, state).set(oldest.timestamp() if oldest else nan)
        self._asked_at = self._clock()
        return 0
