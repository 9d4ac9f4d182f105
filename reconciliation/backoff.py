"""How long to leave a question alone after it brought no news: twice as long each time.

The waits are kept in memory, because a lost wait costs one question too many and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta
from uuid import UUID

FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=1), timedelta(seconds=60)


class Backoff:
    """When each question, by its id, may be asked again."""

    def __init__(
        self, first: timedelta = FIRST_WAIT, longest: timedelta = LONGEST_WAIT, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._first, self._longest = first.total_seconds(), longest.total_seconds()
        self._clock = clock
        self._waits: dict[UUID, tuple[float, float]] = {}

    def may_ask(self, question_id: UUID) -> bool:
        """Whether the wait of this question is over."""
        until, _ = self._waits.get(question_id, (0.0, 0.0))
        return self._clock() >= until

    def wait(self, question_id: UUID) -> None:
        """Wait twice as long as the last time, because the question brought no news."""
        _, last = self._waits.get(question_id, (0.0, 0.0))
        pause = min(max(last * 2, self._first), self._longest)
        self._waits[question_id] = (self._clock() + pause, pause)

    def keep_only(self, question_ids: Collection[UUID]) -> None:
        """Forget the waits of all other questions: nobody asks them any more."""
        self._waits = {question_id: wait for question_id, wait in self._waits.items() if question_id in question_ids}
