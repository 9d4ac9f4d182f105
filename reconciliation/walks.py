"""Walks through a long list page by page, one page for each round, and begins again at its end.

So a round costs the same however long the list is, and every entry has its turn. The place is kept in memory: a new process begins at the
front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from reconciliation.alone import Named, alone, ids_of

PAGE = 200  # entries per round


class Walk:
    """Where the next page of a list begins. Entries that disappear meanwhile move others forward; those are seen in the next walk."""

    def __init__(self) -> None:
        self.first = 0

    def go_on(self, found: int) -> None:
        """Note how many entries the page had; after a page that was not full, the walk begins again."""
        self.first = self.first + found if found == PAGE else 0


Item = TypeVar("Item", bound=Named)


class Kept(Generic[Item]):
    """What a sweep has found and will not find again. Each item is kept, through failures and outages, until it is dealt with."""

    def __init__(self, sweep: str, act: Callable[[Item], bool]) -> None:
        self._sweep = sweep
        self._act = act
        self._items: dict[tuple[object, ...], Item] = {}

    def add(self, items: Iterable[Item]) -> None:
        """Keep what was found, before the walk goes on."""
        self._items |= {_key(item): item for item in items}

    def settle(self) -> int:
        """Act on each item, alone; returns how often that changed something. Raises outages."""
        return sum(alone(self._sweep, self._settle, item) for item in list(self._items.values()))

    def _settle(self, item: Item) -> bool:
        is_changed = self._act(item)
        del self._items[_key(item)]
        return is_changed


def _key(item: Named) -> tuple[object, ...]:
    return tuple(ids_of(item).values())
