"""What one transaction did, in the words of a log: a worker writes it down after COMMIT (decision 0042).

The domain logs nothing, because its transaction may still roll back. It only notes here what the log would otherwise not know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Row

from domain.errors import Refusal


class Outcome(StrEnum):
    """How a command that was committed ended. REPLAYED: a repeat found it done; SKIPPED: an event was too old to count."""

    EXECUTED = "executed"
    REPLAYED = "replayed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Summary:
    """The changes of state, each with the version that its command expected; the conflicts that were kept; further facts."""

    outcome: Outcome = Outcome.EXECUTED
    transitions: list[tuple[Mapping[str, Any], int | None]] = field(default_factory=list)
    conflicts: list[Refusal] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    is_told: bool = False

    def note(self, outcome: Outcome | None = None, **facts: Any) -> None:
        """Have the command told although it changed no state, with these facts; they are named as the columns of the logs are."""
        self.outcome = outcome or self.outcome
        self.is_told = True
        self.facts |= facts

    def repeat(self, aggregate_type: str, row: Row[Any]) -> None:
        """Have the command told as a repeat: what it asks for is true of this row already."""
        self.note(Outcome.REPLAYED, aggregate_type=aggregate_type, aggregate_id=row.id, actual_version=row.version)
