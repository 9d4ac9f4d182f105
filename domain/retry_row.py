"""One row of the table of retries (`domain/retry_rules.py`), and the units that its numbers are written in."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
UNLIMITED_TRIES = sys.maxsize
UNLIMITED_TIME = timedelta.max
NO_CALL = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """One operation and one class of failure. Each wait is twice the one before, from `first_wait` to `longest_wait`.

    `attempts`: tries in all. `time`: from the first failure of this class, or from what `record` names, to the end. One of them bounds the
    tries, or `end` says why nothing does. `call`: the time limit of one try; NO_CALL where nothing is called. `test` names a test that shows
    the bound.
    """

    operation: str
    failure: str
    first_wait: timedelta
    longest_wait: timedelta
    identity: str
    record: str
    end: str
    test: str
    attempts: int = UNLIMITED_TRIES
    time: timedelta = UNLIMITED_TIME
    call: timedelta = NO_CALL

    def wait_after(self, waited: timedelta) -> timedelta:
        """The wait before the next try, after it has been tried for this time: as long again, which doubles each wait without a counter."""
        return min(max(waited, self.first_wait), self.longest_wait)
