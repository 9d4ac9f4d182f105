"""How a sweep works through what it finds: round by round, until nothing is left or its budget is used up.

The rule it keeps: what one reconciler has taken, no other one takes until the lease is over, and no tenant keeps another one waiting. What
a sweep has no time for it gives back, so that the next sweep finds it at once. After an outage the lease is the pause.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Row, Table
from sqlalchemy import Engine as Database

from domain.store import claims, leases
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone

ROUND = 100  # rows that a sweep takes at once
BUDGET = timedelta(seconds=5)  # of one sweep: the other sweeps wait meanwhile
LEASE = timedelta(seconds=30)  # well above the budget

Rows: TypeAlias = Sequence[Row[Any]]
Act: TypeAlias = Callable[[Row[Any]], bool]
Find: TypeAlias = Callable[[Connection, int], Rows]
"""Finds at most so many rows."""
Claim: TypeAlias = Callable[[Connection, int, timedelta | None], Rows]
"""Claims at most so many rows for so long; None: it only reads them."""
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


def act_on(sweep: str, rows: Rows, act: Act, give_back: Callable[[Rows], None], until: float | None = None) -> int:
    """Act on each of these rows, alone, until the budget is used up, and give the others back; returns how often `act` changed something."""
    left = iter(rows)
    changed = sum(alone(sweep, act, row) for row in in_time(left, until))
    if rest := list(left):
        give_back(rest)
    return changed


def in_rounds(
    sweep: str, take: Callable[[], Rows], act: Act, give_back: Callable[[Rows], None], *, once: bool, until: float | None = None
) -> int:
    """Act on what `take` returns, until it returns nothing, the budget is used up, or `once`; returns how often `act` changed something."""
    until = budget_ends() if until is None else until
    changed = 0
    while rows := take():
        changed += act_on(sweep, rows, act, give_back, until)
        if once or time.monotonic() >= until:
            break
    return changed


class Claimed:
    """Rows of `table` that `claim` claims until their next check. A dry run takes nothing, and sees only the first round.

    `key` is the name that the rows give to the id of the table.
    """

    def __init__(self, database: Database, table: Table, claim: Claim, *, key: str = "id", dry_run: bool) -> None:
        self._database = database
        self._table = table
        self._claim = claim
        self._key = key
        self._dry_run = dry_run

    def each(self, sweep: str, act: Act, until: float | None = None) -> int:
        """Act on every row that is due; returns how often that changed something. `act` says when a row is to be checked again."""
        return in_rounds(sweep, self.take, act, self.give_back, once=self._dry_run, until=until)

    def take(self, limit: int | None = None) -> Rows:
        """Claim rows that are due: `limit`, or as many as a round has."""
        with housekeeping(self._database) as connection:
            return self._claim(connection, limit or ROUND, None if self._dry_run else LEASE)

    def check_later(self, waits: Sequence[tuple[Row[Any], timedelta]]) -> None:
        """Check claimed rows that are not settled again after these waits."""
        if waits and not self._dry_run:
            with housekeeping(self._database) as connection:
                claims.check_later(connection, self._table, waits, key=self._key)

    def give_back(self, rows: Rows) -> None:
        """Give back claimed rows that were not checked."""
        if rows and not self._dry_run:
            with housekeeping(self._database) as connection:
                claims.give_back(connection, self._table, rows, key=self._key)


class Leased:
    """What the sweep `kind` finds, under leases. A dry run takes nothing, and sees only the first round."""

    def __init__(self, database: Database, kind: str, *, dry_run: bool) -> None:
        self._database = database
        self._kind = kind
        self._dry_run = dry_run
        self._taken: dict[leases.Key, int] = {}  # and not acted on yet

    def each(self, find: Find, act: Act, until: float | None = None) -> int:
        """Act on every row that `find` finds; returns how often that changed something. What was not changed waits for its lease to end."""
        return in_rounds(
            self._kind, lambda: self.take(find), lambda row: self.settle(row, act), self.give_back, once=self._dry_run, until=until
        )

    def take(self, find: Find) -> Rows:
        """Lease what `find` finds."""
        with housekeeping(self._database) as connection:
            rows = find(connection, ROUND)
            if self._dry_run:
                return rows
            self._taken = dict(leases.take(connection, self._kind, rows, LEASE))
            return [row for row in rows if leases.key_of(row) in self._taken]

    def settle(self, row: Row[Any], act: Act) -> bool:
        """Act on a leased row, and end its lease if that changed something."""
        self._taken.pop(leases.key_of(row), None)
        is_changed = act(row)
        if is_changed and not self._dry_run:
            with housekeeping(self._database) as connection:
                leases.end(connection, self._kind, [leases.key_of(row)])
        return is_changed

    def give_back(self, rows: Rows) -> None:
        """Give back rows of the last take that were not acted on."""
        left = self._taken.keys() & {leases.key_of(row) for row in rows}
        if left and not self._dry_run:
            with housekeeping(self._database) as connection:
                leases.give_back(connection, self._kind, {key: self._taken[key] for key in left})
