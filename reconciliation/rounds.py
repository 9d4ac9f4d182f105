"""How a sweep works through what it finds: round by round, until nothing is left or its budget is used up.

The rule it keeps: what one reconciler has taken, no other one takes until the lease is over, and no tenant keeps another one waiting. A
sweep gives back what it has not looked at, so that the next sweep finds it at once, whichever reconciler makes it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import Connection, Row, Table
from sqlalchemy import Engine as Database

from domain.store import claims, leases
from domain.store.leases import Key
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
Proof = TypeVar("Proof")
Item = TypeVar("Item")


def budget_ends() -> float:
    """When the budget of a sweep that begins now is used up, by the monotonic clock. A sweep that looks for several things shares it among them."""
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


class Taking(ABC, Generic[Proof]):
    """What a sweep takes, so that no other reconciler acts on it meanwhile. A dry run takes nothing, and sees only the first round.

    `_held`: what was taken and not looked at yet, each with what proves that it was taken.
    """

    def __init__(self, database: Database, sweep: str, *, dry_run: bool) -> None:
        self._database = database
        self._sweep = sweep
        self._dry_run = dry_run
        self._held: dict[Key, Proof] = {}

    def rounds(self, take: Callable[[], Rows], act: Act, until: float | None = None) -> int:
        """Act on what `take` returns, until it returns nothing or the budget is used up; returns how often `act` changed something."""
        until = budget_ends() if until is None else until
        changed = 0
        while rows := take():
            changed += self._act_in_time(rows, act, until)
            if self._dry_run or time.monotonic() >= until:
                break
        self._give_back()
        return changed

    def act_on(self, rows: Iterable[Row[Any]], act: Act, until: float | None = None) -> int:
        """Act on each of these taken rows until the budget is used up, and give back whatever is held; returns how often that changed something."""
        changed = self._act_in_time(rows, act, until)
        self._give_back()
        return changed

    def looked_at(self, rows: Iterable[Row[Any]]) -> None:
        """Keep the leases of these rows until they end: nothing is to be done about the rows now."""
        for row in rows:
            self._held.pop(self._key_of(row), None)

    def _act_in_time(self, rows: Iterable[Row[Any]], act: Act, until: float | None) -> int:
        # What `alone` leaves alone for a while stays held: another reconciler may act on it.
        return sum(alone(self._sweep, self._act, row, act) for row in in_time(rows, until))

    def _act(self, row: Row[Any], act: Act) -> bool:
        proof = self._held.pop(self._key_of(row), None)
        is_changed = act(row)
        if is_changed and proof is not None:
            self._settle(row, proof)
        return is_changed

    def _give_back(self) -> None:
        if self._held:
            with housekeeping(self._database) as connection:
                self._free(connection, self._held)
        self._held = {}

    @abstractmethod
    def _key_of(self, row: Row[Any]) -> Key: ...

    @abstractmethod
    def _free(self, connection: Connection, held: Mapping[Key, Proof]) -> None:
        """Let others have what was taken and not looked at."""

    @abstractmethod
    def _settle(self, row: Row[Any], proof: Proof) -> None:
        """Note that nothing is left to do about a row."""


class Claimed(Taking[Row[Any]]):
    """Rows of `table` that `claim` claims until their next check; `key` is the name that they give to the id of the table.

    Whoever acts on a row says when it is to be checked again.
    """

    def __init__(self, database: Database, sweep: str, table: Table, claim: Claim, *, key: str = "id", dry_run: bool) -> None:
        super().__init__(database, sweep, dry_run=dry_run)
        self._table = table
        self._claim = claim
        self._key = key

    def each(self, act: Act, until: float | None = None) -> int:
        """Act on every row that is due; returns how often that changed something."""
        return self.rounds(self.take, act, until)

    def take(self, limit: int | None = None) -> Rows:
        """Claim rows that are due: at most `limit`, or as many as a round has."""
        with housekeeping(self._database) as connection:
            rows = self._claim(connection, limit or ROUND, None if self._dry_run else LEASE)
        if not self._dry_run:
            self._held |= {self._key_of(row): row for row in rows}
        return rows

    def check_later(self, waits: Sequence[tuple[Row[Any], timedelta]]) -> None:
        """Check claimed rows that are not settled again after these waits."""
        self.looked_at(row for row, _ in waits)
        if waits and not self._dry_run:
            with housekeeping(self._database) as connection:
                claims.check_later(connection, self._table, waits, key=self._key)

    def _key_of(self, row: Row[Any]) -> Key:
        return row.tenant_id, row._mapping[self._key]

    def _free(self, connection: Connection, held: Mapping[Key, Row[Any]]) -> None:
        claims.give_back(connection, self._table, list(held.values()), key=self._key)

    def _settle(self, row: Row[Any], proof: Row[Any]) -> None:
        """Nothing is noted: a settled row is no longer among those that are checked."""


class Leased(Taking[datetime]):
    """What a sweep finds, under leases. What was not changed waits for its lease to end."""

    def each(self, find: Find, act: Act, until: float | None = None) -> int:
        """Act on every row that `find` finds; returns how often that changed something."""
        return self.rounds(lambda: self.take(find), act, until)

    def take(self, find: Find) -> Rows:
        """Find rows, and lease those that nobody else has leased."""
        with housekeeping(self._database) as connection:
            rows = find(connection, ROUND)
            if self._dry_run:
                return rows
            taken = leases.take(connection, self._sweep, rows, LEASE)
        self._held |= taken
        return [row for row in rows if self._key_of(row) in taken]

    def _key_of(self, row: Row[Any]) -> Key:
        return leases.key_of(row)

    def _free(self, connection: Connection, held: Mapping[Key, datetime]) -> None:
        leases.give_back(connection, self._sweep, held)

    def _settle(self, row: Row[Any], proof: datetime) -> None:
        with housekeeping(self._database) as connection:
            leases.end(connection, self._sweep, {self._key_of(row): proof})
