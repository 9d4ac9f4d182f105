"""Checks every rule that the database alone can answer; matrices and moves say what is allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

import domain.schema  # noqa: F401 - registers every move and every refusal
from domain.auditing import delivery, history, offers, projections, signatures
from domain.auditing.rule import Rule
from domain.errors import DomainError
from domain.store import CellKind, Check, Matrix, Move

RULES: tuple[Rule, ...] = (*offers.RULES, *history.RULES, *delivery.RULES, *projections.RULES, *signatures.RULES)
# A creation is no move, so the registry of moves does not say that these are announced by an event.
ANNOUNCED_WHEN_CREATED = ("quote", "sales_order", "approval_request")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one rule: how many rows it covers (`counted`), and a sentence with ids for each violation."""

    code: str
    title: str
    counted: Mapping[str, int] = field(default_factory=dict)
    violations: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.violations


def check(connection: Connection, tenant_id: UUID) -> list[CheckResult]:
    """Check every rule for one tenant. Changes nothing."""
    parameters = _parameters(tenant_id)
    return [_check(connection, rule, parameters) for rule in RULES]


def _check(connection: Connection, rule: Rule, parameters: Mapping[str, Any]) -> CheckResult:
    counted = {name: int(connection.scalar(text(query), parameters) or 0) for name, query in rule.counts.items()}
    found = tuple(str(sentence) for query in rule.violations for sentence in connection.scalars(text(query), parameters))
    return CheckResult(code=rule.code, title=rule.title, counted=counted, violations=found)


def _parameters(tenant_id: UUID) -> dict[str, Any]:
    matrices = history.MATRICES.items()
    finals = [{"aggregate": aggregate, "state": state} for aggregate, matrix in matrices for state in _finals(matrix)]
    return {
        "tenant_id": tenant_id,
        "cells": json.dumps([cell for aggregate, matrix in matrices for cell in _cells(aggregate, matrix)]),
        "finals": json.dumps(finals),
        "announced": json.dumps(_announced()),
        "codes": sorted(_codes(DomainError)),
    }


def _cells(aggregate: str, matrix: Matrix[Any, Any]) -> list[dict[str, Any]]:
    """The cells that write a row of the log: moves and contradictions."""
    cells = [(event, state, matrix.cell(event, state)) for event in matrix.events for state in matrix.states]
    return [
        {
            "aggregate": aggregate,
            "event": event,
            "from": state,
            "to": cell.target,
            "contradiction": cell.kind is CellKind.CONTRADICTION,
        }
        for event, state, cell in cells
        if cell is not None and cell.kind is not CellKind.KEEP
    ]


def _finals(matrix: Matrix[Any, Any]) -> list[str]:
    """The states that no event leads out of."""
    left = {state for event in matrix.events for state, target in matrix.targets(event).items() if target != state}
    return [state for state in matrix.states if state not in left]


def _announced() -> list[dict[str, str | None]]:
    """Log rows that must have an event beside them: aggregate and reason, None for a creation."""
    moves = [check for check in Check.registry.values() if isinstance(check, Move) and check.emits is not None]
    announced: list[tuple[str, str | None]] = [(move.table.name, str(move.event)) for move in moves]
    announced += [(aggregate, None) for aggregate in ANNOUNCED_WHEN_CREATED]
    return [{"aggregate": aggregate, "event": event} for aggregate, event in announced]


def _codes(kind: type[DomainError]) -> set[str]:
    return {kind.code}.union(*(_codes(narrower) for narrower in kind.__subclasses__()))
