"""The open items of all tenants, grouped by the process that works on them: how many wait, and since when.

It counts nothing itself: `open_items` counts for the metrics too, so that `q2o status` and the metrics never differ.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection

from domain.auditing.open_items import open_items
from domain.delivery.attempts import AttemptStatus
from domain.delivery.steps import StepStatus
from domain.fallout.cases import UNRESOLVED

PEOPLE: Final = "people"
"""Stands for a process where only a person can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The number of open items of one kind, and the process that works on them.

    `oldest` is the time since which the oldest item has waited, or None if no item waits. `unknown` says why the items could not be
    counted; then `count` is None.
    """

    process: str
    what: str
    count: int | None
    oldest: datetime | None
    unknown: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same for other programs."""
        known = {"process": self.process, "what": self.what, "count": self.count, "oldest": self.oldest and self.oldest.isoformat()}
        return known | ({"unknown": self.unknown} if self.unknown else {})


_KINDS: Final[Mapping[tuple[str, str], tuple[str, Collection[StrEnum]]]] = {
    ("relay", "events for Kafka"): ("event", ()),
    ("dispatch", "commands for the engine"): ("workflow_command", ()),
    ("tasks", "steps to send again"): ("step", (StepStatus.RETRYABLE,)),
    ("tasks", "orders in delivery"): ("order", ()),
    ("reconcile", "process starts without an outcome"): ("workflow_start", ()),
    ("reconcile", "steps without an outcome"): ("provider_attempt", (AttemptStatus.UNKNOWN,)),
    ("reconcile", "contradictions without an answer"): ("contradiction", ()),
    ("reconcile", "open findings"): ("finding", ()),
    (PEOPLE, "approvals"): ("approval", ()),
    (PEOPLE, "cancellations"): ("cancellation", ()),
    (PEOPLE, "fallout cases"): ("case", UNRESOLVED),
}
"""Process and name -> which open items these are, in which states (none named: in every state)."""


def backlog(connection: Connection) -> list[Waiting]:
    """Every kind of item that may wait, also those of which none does."""
    found = open_items(connection)
    waiting = []
    for (process, name), (kind, states) in _KINDS.items():
        items = [each for each in found if each.what == kind and (not states or each.state in states)]
        oldest = min((each.oldest for each in items if each.oldest), default=None)
        waiting.append(Waiting(process=process, what=name, count=sum(each.number for each in items), oldest=oldest))
    return waiting
