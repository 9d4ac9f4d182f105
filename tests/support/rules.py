"""The engine's answers to handlers, without an engine: what the rules give, who completed the task and how, who is in which group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from workers.runtime.engine import Completion, Engine
from workers.runtime.variables import TypedValue, encode


@dataclass(slots=True)
class KnownEngine:
    """`rows` are the results of the decisions, by their key; `asked` keeps what they were asked with.

    `typed` is what the person typed who completes the next task; `shown` is what the forms have shown, by process instance.
    `completions` is how often user tasks were completed: a worker that repeats its task finds the same completion.
    """

    rows: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    completed_by: str | None = None
    typed: dict[str, TypedValue] = field(default_factory=dict)
    shown: dict[str, dict[str, list[TypedValue]]] = field(default_factory=dict)
    is_logged: bool = True
    completions: int = 1
    asked: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def door(self) -> Engine:
        return cast("Engine", self)

    def offer(self, process_instance_id: str, values: Mapping[str, Any]) -> None:
        """Show a form with the values that a worker gave it."""
        self.shown[process_instance_id] = {name: [value] for name, value in encode(values).items()}

    def forge(self, **values: Any) -> None:
        """Let somebody write into every open form."""
        for shown in self.shown.values():
            for name, value in encode(values).items():
                shown[name].append(value)

    def decision_definition_id(self, process_instance_id: str, decision_key: str) -> str:
        return f"{decision_key}:{process_instance_id}"

    def evaluate_version(self, definition_id: str, variables: Mapping[str, Any]) -> list[dict[str, Any]]:
        decision_key = definition_id.split(":", maxsplit=1)[0]
        self.asked[decision_key] = variables
        return [dict(row) for row in self.rows.get(decision_key, ())]

    def who_completed(self, process_instance_id: str, activity_id: str) -> Completion | None:
        if not self.is_logged:
            raise LookupError("the operation log does not say who completed task task-1")
        if self.completed_by is None:
            return None
        return Completion(
            user_id=self.completed_by,
            task_id=f"{activity_id}:{process_instance_id}:{self.completions}",
            typed=self.typed,
            shown=self.shown.get(process_instance_id, {}),
        )

    def groups_of(self, user_id: str) -> list[str]:
        return list(self.groups.get(user_id, ()))
