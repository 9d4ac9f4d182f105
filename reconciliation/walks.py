"""Walks through a long list page by page, one page for each round, and begins again at its end.

So a round costs the same however long the list is, and every entry has its turn. The place is kept in memory: a new process begins at the
front.
"""

from __future__ import annotations

PAGE = 200  # entries per round


class Walk:
    """Where the next page of a list begins. Entries that disappear meanwhile move others forward; those are seen in the next walk."""

    def __init__(self) -> None:
        self.first = 0

    def go_on(self, found: int) -> None:
        """Note how many entries the page had; after a page that was not full, the walk begins again."""
        self.first = self.first + found if found == PAGE else 0
