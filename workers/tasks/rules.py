"""What the process owner's rules give, evaluated by the engine with facts from the database.

A process shows what its decision tables gave; whoever may write its variables could change that. So a handler that acts on a rule has the
engine evaluate it once more, at the version that the process has used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable


def evaluated(engine: Engine, task: Task, decision: str, facts: Mapping[str, Variable]) -> list[dict[str, Any]]:
    """The rows that a decision gives for these facts, in the version that was last evaluated in the instance of a task."""
    return engine.evaluate_version(engine.decision_definition_id(task.process_instance_id, decision), facts)


def the_only_row(engine: Engine, task: Task, decision: str, facts: Mapping[str, Variable]) -> dict[str, Any]:
    """The one row of a decision that always gives one. Raises GiveUp when it does not."""
    rows = evaluated(engine, task, decision, facts)
    if len(rows) != 1:
        raise GiveUp(f"{decision} gives {len(rows)} results for {dict(facts)}: correct its rules so that exactly one matches")
    return rows[0]
