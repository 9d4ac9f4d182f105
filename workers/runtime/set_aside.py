"""What becomes of an item that a loop cannot carry out: a record, a row, a task, an answer.

The rule it keeps: an error that is no outage belongs to its item alone. It is logged with the item's ids and counted, the item is set aside,
and the loop goes on with the next one. An item that stays where it is gets pauses that double, so that it costs the others nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog

from domain.retry_rules import SWEEP_FAILED
from workers.runtime.metrics import ITEMS_SET_ASIDE
from workers.runtime.outages import is_outage

FIRST_PAUSE, LONGEST_PAUSE = SWEEP_FAILED.first_wait, SWEEP_FAILED.longest_wait

_log = structlog.get_logger()


def set_aside(loop: str, item: str, error: BaseException, /, **ids: object) -> None:
    """Log and count an item of a loop that ended in `error`; `item` is its kind, such as `message`."""
    ITEMS_SET_ASIDE.labels(loop=loop, item=item).inc()
    reason = str(getattr(error, "orig", None) or error)  # without the statement and its parameters
    facts = {"loop": loop, "item": item, "raised": type(error).__name__, "reason": reason, "exc_info": error}
    _log.error("item_set_aside", **{**ids, **facts})


@contextmanager
def isolated(loop: str, item: str, /, **ids: object) -> Iterator[None]:
    """Set an item aside when the block that works on it raises; only an outage passes. What stands behind the block is for that case."""
    try:
        yield
    except Exception as error:
        if is_outage(error):
            raise
        set_aside(loop, item, error, **ids)


class Pauses:
    """How long each item that failed is left alone.

    The pauses are kept in memory, because a lost pause costs one try too many and nothing else.
    """

    def __init__(
        self,
        first: timedelta = FIRST_PAUSE,
        longest: timedelta = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first, self._longest = first.total_seconds(), longest.total_seconds()
        self._clock = clock
        self._pauses: dict[Hashable, tuple[float, float]] = {}

    def __contains__(self, item_id: Hashable) -> bool:
        """Whether this item is left alone now."""
        until, _ = self._pauses.get(item_id, (0.0, 0.0))
        return self._clock() < until

    def prolong(self, item_id: Hashable) -> timedelta:
        """Leave an item alone that has just failed, twice as long as after its last failure; returns how long."""
        self._forget_the_past()
        _, last = self._pauses.get(item_id, (0.0, 0.0))
        pause = min(max(last * 2, self._first), self._longest)
        self._pauses[item_id] = (self._clock() + pause, pause)
        return timedelta(seconds=pause)

    def end(self, item_id: Hashable) -> None:
        """Forget the failures of an item that was carried out."""
        self._pauses.pop(item_id, None)

    def _forget_the_past(self) -> None:
        # An item that nobody has tried for so long was settled by somebody else.
        now = self._clock()
        self._pauses = {each: (until, pause) for each, (until, pause) in self._pauses.items() if now < until + self._longest}
