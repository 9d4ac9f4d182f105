"""What waits, of all tenants: for each process the number of its open items, and since when the oldest has waited."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, Table, func, literal, select, union_all

from domain.delivery.cancellations import OPEN, CancellationRequest
from domain.delivery.contradictions import CONTRADICTION
from domain.delivery.orders import FINAL, ORDER
from domain.delivery.steps import STEP, StepStatus
from domain.fallout.cases import UNRESOLVED
from domain.fallout.triaging import CASE
from domain.offers.approvals import ApprovalRequirement, RequirementStatus
from domain.store import is_one_of, table_of
from domain.store.facts import OutboxEvent, OutboxStatus, WorkflowCommandStatus
from domain.workflows.requests import COMMAND
from domain.workflows.starts import CORRELATION, UNSETTLED

_EVENT, _REQUIREMENT, _CANCELLATION = (table_of(entity) for entity in (OutboxEvent, ApprovalRequirement, CancellationRequest))
PEOPLE: Final = "people"
"""Stands for a process where only a person can go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Open items of one kind; `process` carries them on, `oldest` is the time since which the oldest waits (None: there is none)."""

    process: str
    what: str
    count: int
    oldest: datetime | None

    def as_json(self) -> dict[str, Any]:
        return {"process": self.process, "what": self.what, "count": self.count, "oldest": self.oldest and self.oldest.isoformat()}


_KINDS: Final[Mapping[tuple[str, str], tuple[Table, ColumnElement[bool], ColumnElement[Any]]]] = {
    ("relay", "events for Kafka"): (_EVENT, _EVENT.c.status == OutboxStatus.PENDING, _EVENT.c.created_at),
    ("dispatch", "commands for the engine"): (COMMAND, COMMAND.c.status == WorkflowCommandStatus.PENDING, COMMAND.c.created_at),
    ("tasks", "steps to send again"): (STEP, STEP.c.status == StepStatus.RETRYABLE, STEP.c.updated_at),
    ("tasks", "orders in delivery"): (ORDER, ~is_one_of(ORDER.c.status, *FINAL), ORDER.c.created_at),
    ("reconcile", "process starts without an outcome"): (
        CORRELATION,
        is_one_of(CORRELATION.c.status, *UNSETTLED),
        CORRELATION.c.updated_at,
    ),
    ("reconcile", "steps without an outcome"): (STEP, STEP.c.status == StepStatus.UNKNOWN, STEP.c.updated_at),
    ("reconcile", "contradictions without an answer"): (
        CONTRADICTION,
        CONTRADICTION.c.answer.is_(None),
        CONTRADICTION.c.created_at,
    ),
    (PEOPLE, "signatures"): (_REQUIREMENT, _REQUIREMENT.c.status == RequirementStatus.PENDING, _REQUIREMENT.c.created_at),
    (PEOPLE, "cancellations"): (_CANCELLATION, is_one_of(_CANCELLATION.c.status, *OPEN), _CANCELLATION.c.created_at),
    (PEOPLE, "fallout cases"): (CASE, is_one_of(CASE.c.status, *UNRESOLVED), CASE.c.created_at),
}


def backlog(connection: Connection) -> list[Waiting]:
    """Every kind of item that may wait, also those of which none does."""
    parts = [_count(process, what, *kind) for (process, what), kind in _KINDS.items()]
    found = {(row.process, row.what): row for row in connection.execute(union_all(*parts))}
    return [
        Waiting(process=process, what=what, count=found[process, what].number, oldest=found[process, what].oldest)
        for process, what in _KINDS
    ]


def _count(process: str, what: str, table: Table, is_open: ColumnElement[bool], since: ColumnElement[Any]) -> Select[Any]:
    columns: tuple[ColumnElement[Any], ...] = (
        literal(process).label("process"),
        literal(what).label("what"),
        func.count().label("number"),
        func.min(since).label("oldest"),
    )
    return select(*columns).select_from(table).where(is_open)
