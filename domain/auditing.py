"""The invariants of a whole history, as read-only queries: what must be true of a tenant once everything has settled.

Every rule holds by construction somewhere else (a guard, a constraint, a claim). Here nothing is trusted: each rule is looked up in
the rows that are left, so that a mistake in a guard is seen by something that does not share it. Codes are those of the design's list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from domain import audit_rules, schema
from domain.errors import DomainError
from domain.orders import FINAL as ORDER_FINAL
from domain.quotes import IN_APPROVAL
from domain.store import Effect, Matrix, Move

# A creation is not in the registry of moves: what tells the world of it is named by whoever creates.
ANNOUNCED_AT_BIRTH = ("quote", "sales_order", "approval_request")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One invariant as it was found: `counted` says over how much, each violation is a sentence with the ids that it is about."""

    code: str
    title: str
    counted: Mapping[str, int] = field(default_factory=dict)
    violations: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.violations


class WantedWorkflow(NamedTuple):
    """A process that was asked for. `is_settled`: its aggregate needs it no more; `is_cancelled`: it may have been ended from outside."""

    business_key: str
    workflow_name: str
    status: str
    process_instance_id: str | None
    is_settled: bool
    is_cancelled: bool


class StepOutcome(NamedTuple):
    """A step beside what a provider may say of it.

    `is_by_hand`: a person resolved it as completed. `is_completion_kept`: the provider's "done" is on the row, whatever its state.
    """

    step_id: UUID
    status: str
    is_by_hand: bool
    is_completion_kept: bool
    is_order_settled: bool


class CommittedEvent(NamedTuple):
    """An event that a transaction left in the outbox."""

    event_id: UUID
    event_type: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    is_published: bool


def check(connection: Connection, tenant_id: UUID) -> list[CheckResult]:
    """Look up every rule that the database alone can answer."""
    parameters = _parameters(tenant_id)
    return [_look_up(connection, rule, parameters) for rule in audit_rules.RULES]


def _look_up(connection: Connection, rule: audit_rules.Rule, parameters: Mapping[str, Any]) -> CheckResult:
    counted = {name: int(connection.scalar(text(query), parameters) or 0) for name, query in rule.counts.items()}
    found = [str(sentence) for query in rule.violations for sentence in connection.scalars(text(query), parameters)]
    return CheckResult(code=rule.code, title=rule.title, counted=counted, violations=tuple(found))


def _parameters(tenant_id: UUID) -> dict[str, Any]:
    matrices = audit_rules.MATRICES
    return {
        "tenant_id": tenant_id,
        "cells": json.dumps([cell for aggregate, matrix in matrices.items() for cell in _cells(aggregate, matrix)]),
        "finals": json.dumps(
            [{"aggregate": aggregate, "state": state} for aggregate, matrix in matrices.items() for state in final_states(matrix)]
        ),
        "announced": json.dumps(_announced()),
        "codes": sorted(_codes(DomainError)),
    }


def _cells(aggregate: str, matrix: Matrix[Any, Any]) -> list[dict[str, Any]]:
    cells = [(event, state, matrix.cell(event, state)) for event in matrix.events for state in matrix.states]
    return [
        {
            "aggregate": aggregate,
            "event": event,
            "from": state,
            "to": cell.target,
            "contradiction": cell.effect is Effect.CONTRADICTION,
        }
        for event, state, cell in cells
        if cell is not None and cell.effect is not Effect.KEEP
    ]


def final_states(matrix: Matrix[Any, Any]) -> list[str]:
    """States that no event leads out of."""
    left = {state for event in matrix.events for state, target in matrix.targets(event).items() if target != state}
    return [state for state in matrix.states if state not in left]


def _announced() -> list[dict[str, str]]:
    """Which entries of the log must have an event beside them: aggregate and reason, `null` for a birth."""
    moves = [move for module in schema.MODULES for move in _moves_of(module)]
    return [{"aggregate": move.table.name, "event": str(move.event)} for move in moves if move.emits is not None]


def _moves_of(module: Any) -> list[Move]:
    values = [item for value in vars(module).values() for item in (value.values() if isinstance(value, dict) else [value])]
    return [value for value in values if isinstance(value, Move)]


def _codes(refusal: type[DomainError]) -> set[str]:
    return {refusal.code}.union(*(_codes(kind) for kind in refusal.__subclasses__()))
