"""What a person typed into a form, and what the form showed: read from the engine's history, which nobody can write.

A process variable is anybody's word: whoever may complete a user task writes them, and an operator may report the external task before or
after it with any others. The history keeps each value with the operation that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workers.runtime.variables import TypedValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One value that a variable of a process instance had from a moment on. A variable that was removed has the value None from then on."""

    name: str
    value: TypedValue
    at: datetime
    operation_id: str | None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Update:
        return cls(
            name=row["variableName"],
            value={"type": row["variableType"], "value": row["value"]},
            at=datetime.fromisoformat(row["time"]),
            operation_id=row["userOperationId"],
        )


def typed_by(updates: Iterable[Update], operation_id: str) -> Mapping[str, TypedValue]:
    """What one operation of a person wrote, by name."""
    return {each.name: each.value for each in updates if each.operation_id == operation_id}


def shown_between(
    updates: Iterable[Update], opened: datetime, closed: datetime, completion: str
) -> Mapping[str, Sequence[TypedValue]]:
    """Every value that a form may have shown while its task was open, by name: what was there when it was opened, and each value since.

    What the completion itself wrote (an operation's id) is what was typed, so it was not shown.
    """
    shown: dict[str, list[Update]] = {}
    for each in sorted(updates, key=lambda update: update.at):
        if each.operation_id == completion or each.at > closed:
            continue
        before = shown.setdefault(each.name, [])
        if each.at <= opened and before and before[-1].at < each.at:
            before.clear()  # of values of one millisecond, none is known to be the last
        before.append(each)
    return {name: [each.value for each in values] for name, values in shown.items()}
