"""Walks through a long list page by page, one page for each round, and begins again at its end.

So a round costs the same however long the list is, and every entry has its turn: what a round has no time for is the beginning of the next
page. The place is kept in memory: a new process begins at the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby, zip_longest
from random import sample
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from reconciliation.alone import Named, alone, ids_of
from reconciliation.rounds import in_time

PAGE = 200  # entries per round
Entry = TypeVar("Entry")


class Walk:
    """Where the next page of a list begins. Entries that disappear meanwhile move others forward; those are seen in the next walk."""

    def __init__(self) -> None:
        self.first = 0

    def through(self, page: Sequence[Entry], until: float | None = None) -> Iterator[Entry]:
        """Give the entries of a page in time. The next page begins behind the last one that was given, or at the front after the last page."""
        ends_with = self.first + len(page)
        for entry in in_time(page, until):
            self.first += 1
            yield entry
        if self.first == ends_with and len(page) < PAGE:
            self.first = 0


class OfTenant(Named, Protocol):
    """An item of one tenant."""

    @property
    def tenant_id(self) -> UUID: ...


Item = TypeVar("Item", bound=OfTenant)


class Kept(Generic[Item]):
    """What a sweep has found and will not find again. Each item is kept, through failures and outages, until it is dealt with.

    Tenants take turns, which of them is first is left to chance, and an item that could not be dealt with goes behind the others of its tenant.
    """

    def __init__(self, sweep: str, act: Callable[[Item], bool]) -> None:
        self._sweep = sweep
        self._act = act
        self._items: dict[tuple[object, ...], Item] = {}

    def add(self, items: Iterable[Item]) -> None:
        """Keep what was found, before the walk goes on."""
        self._items |= {_key(item): item for item in items}

    def settle(self, until: float | None = None) -> int:
        """Act on one item after another until the time is used up; returns how many actions changed something. Raises outages."""
        return sum(alone(self._sweep, self._settle, item) for item in in_time(self._in_turns(), until))

    def _in_turns(self) -> Iterator[Item]:
        of_tenants = [list(items) for _, items in groupby(sorted(self._items.values(), key=_tenant), key=_tenant)]
        turns = zip_longest(*sample(of_tenants, len(of_tenants)))
        for item in chain.from_iterable(turns):
            if item is not None:
                self._items[_key(item)] = self._items.pop(_key(item))
                yield item

    def _settle(self, item: Item) -> bool:
        is_changed = self._act(item)
        del self._items[_key(item)]
        return is_changed


def _tenant(item: OfTenant) -> UUID:
    return item.tenant_id


def _key(item: Named) -> tuple[object, ...]:
    return tuple(ids_of(item).values())
