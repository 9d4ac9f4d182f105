"""How a sweep works through what it finds: round by round, until nothing is left or its budget is used up.

The rule it keeps: what one reconciler has taken, no other one takes until the lease is over, and no tenant keeps another one waiting. What
a sweep has no time for is found again when its lease is over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain.store import leases
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone

ROUND = 100  # rows that a sweep takes at once
BUDGET = timedelta(seconds=5)  # of one sweep: the other sweeps wait meanwhile
LEASE = timedelta(seconds=30)  # well above the budget

Act = Callable[[Row[Any]], bool]
Item = TypeVar("Item")


def budget_ends() -> float:
    """When the budget of a sweep that begins now is used up, by the monotonic clock. What looks for several things shares it among them."""
    return time.monotonic() + BUDGET.total_seconds()


def in_time(items: Iterable[Item], until: float | None = None) -> Iterator[Item]:
    """Give items until the budget of a sweep is used up, at least one: each may wait for a lock, or for an answer from the engine.

    `until`: what `budget_ends` has said; None: the budget begins now.
    """
    until = budget_ends() if until is None else until
    for item in items:
        yield item
        if time.monotonic() >= until:
            return


def in_rounds(sweep: str, take: Callable[[], Sequence[Row[Any]]], act: Act, *, once: bool, until: float | None = None) -> int:
    """Act on each row that `take` returns, alone, until it returns nothing, the budget is used up, or `once`; returns how often `act` changed something."""
    return sum(alone(sweep, act, row) for row in in_time(_each(take, once=once), until))


def _each(take: Callable[[], Sequence[Row[Any]]], *, once: bool) -> Iterator[Row[Any]]:
    while rows := take():
        yield from rows
        if once:
            return


class Leased:
    """What the sweep `kind` finds, under leases. A dry run takes nothing, and sees only the first round."""

    def __init__(self, database: Database, kind: str, *, dry_run: bool) -> None:
        self._database = database
        self._kind = kind
        self._dry_run = dry_run

    def each(self, find: Callable[[Connection, int], Sequence[Row[Any]]], act: Act, until: float | None = None) -> int:
        """Act on every row that `find` finds; returns how often that changed something. What was not changed waits for its lease to end."""
        return in_rounds(self._kind, lambda: self.take(find), lambda row: self.settle(row, act), once=self._dry_run, until=until)

    def take(self, find: Callable[[Connection, int], Sequence[Row[Any]]]) -> Sequence[Row[Any]]:
        """Lease what `find` finds."""
        with housekeeping(self._database) as connection:
            rows = find(connection, ROUND)
            return rows if self._dry_run else leases.take(connection, self._kind, rows, LEASE)

    def settle(self, row: Row[Any], act: Act) -> bool:
        """Act on a leased row, and end its lease if that changed something."""
        is_changed = act(row)
        if is_changed and not self._dry_run:
            with housekeeping(self._database) as connection:
                leases.end(connection, self._kind, [row])
        return is_changed
