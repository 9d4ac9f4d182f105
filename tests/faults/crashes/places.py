"""The places at which a process can die, and at which it has died so far."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from tests.faults.crashes.mortal import Death


class Place(NamedTuple):
    """A gate of a process: the task or command that it carries out, and the statement or call that comes next."""

    process: str
    work: str
    gate: str


class Places:
    """Shared by all processes of a run. A place kills each way once; `budget` bounds the number of deaths, None does not."""

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._lock = Lock()
        self._died: dict[Place, list[Death]] = {}
        self.crashes = 0
        self.last_news = time.monotonic()

    def next_death(self, place: Place, deaths: Sequence[Death]) -> Death | None:
        """Choose a death that nobody has died there; None when all have been, or the budget is spent."""
        with self._lock:
            died = self._died.setdefault(place, [])
            left = [death for death in deaths if death not in died]
            if not left or self.crashes == self._budget:
                return None
            died.append(left[0])
            self.crashes += 1
            self.last_news = time.monotonic()
            return left[0]

    @property
    def places(self) -> list[Place]:
        """Every place that was reached."""
        with self._lock:
            return sorted(self._died)

    @property
    def is_spent(self) -> bool:
        """Whether the budget is spent."""
        return self.crashes == self._budget
