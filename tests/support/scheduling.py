"""Which worker runs which file of tests, and when: the longest files first, and the whole stack on two workers only.

A file that is long and begins last would keep one worker busy while the others are idle. A stack (PostgreSQL, Kafka and the engine) costs
about seventeen seconds of processor time to start, so that one for each worker would cost more than it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

# Two: tests of the stack mostly wait for it, and are too many for one worker.
STACKS = 2
SERVICES = frozenset({"stack", "broker"})
"""Fixtures whose services are started by the workers of a stack only."""
_FILE = Path(__file__).with_name("costs.txt")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a file of tests takes: seconds on a quiet machine, and whether it needs a stack."""

    seconds: float
    needs_stack: bool


@cache
def costs() -> Mapping[str, Cost]:
    """The recorded costs, by the file's path below the root. A file that is not recorded takes no time worth planning, and no stack."""
    lines = (line.split() for line in _FILE.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return {path: Cost(float(seconds), needs == ["stack"]) for seconds, path, *needs in lines}


_NOTHING = Cost(0.0, needs_stack=False)


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]  # xdist ships no types
    """Gives each worker that is free the longest file that it may run."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        self._with_stack: set[WorkerController] = set()

    def remove_node(self, node: WorkerController) -> str | None:
        """Give the stack of a worker that died to its successor."""
        self._with_stack.discard(node)
        crashed: str | None = super().remove_node(node)
        return crashed

    def _assign_work_unit(self, node: WorkerController) -> None:
        scope = self._longest(node)
        if scope is None:
            if not node.shutting_down:
                node.shutdown()
            return
        if costs().get(scope, _NOTHING).needs_stack:
            self._with_stack.add(node)
        self.workqueue.move_to_end(scope, last=False)
        super()._assign_work_unit(node)

    def _longest(self, node: WorkerController) -> str | None:
        """The file to run next. Workers with a stack take the files that need one before all others."""
        may_use_stack = node in self._with_stack or len(self._with_stack) < STACKS
        allowed = [(scope, costs().get(scope, _NOTHING)) for scope in self.workqueue]
        allowed = [(scope, cost) for scope, cost in allowed if may_use_stack or not cost.needs_stack]
        return max(allowed, key=lambda each: (each[1].needs_stack, each[1].seconds), default=(None, _NOTHING))[0]
