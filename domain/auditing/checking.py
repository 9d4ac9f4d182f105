"""Checks every rule that the database alone can answer; matrices and moves say what is allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

import domain.schema  # noqa: F401 - registers every move and every refusal
from domain.auditing import delivery, history, offers, projections, sessions, signatures
from domain.auditing.looking import Looked, expect_many_rows, look
from domain.auditing.rule import ALWAYS, Rule
from domain.errors import DomainError
from domain.store import CellKind, Check, Matrix, Move

RULES: tuple[Rule, ...] = (
    *offers.RULES,
    *history.RULES,
    *delivery.RULES,
    *projections.RULES,
    *signatures.RULES,
    *sessions.RULES,
)
# A creation is no move, so the registry of moves does not say that these are announced by an event.
ANNOUNCED_WHEN_CREATED = ("quote", "sales_order", "approval_request")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """The result of one rule: how many rows it covers (`counted`), and a sentence with ids for each violation.

    `unseen`: why the rule could not be looked at, wholly or in part. `failure`: the same, when its queries failed, so that nobody may take
    this for a side that is not set up. `age`: how old what it names had to be.
    """

    code: str
    title: str
    counted: Mapping[str, int] = field(default_factory=dict)
    violations: tuple[str, ...] = ()
    unseen: str = ""
    failure: str = ""
    age: timedelta = ALWAYS

    @property
    def passed(self) -> bool:
        return not self.violations and not self.unseen


def check(
    connection: Connection, tenant_id: UUID, *, settled: bool = True, told: Callable[[str], object] = lambda _: None
) -> list[CheckResult]:
    """Check every rule for one tenant. Changes nothing but how the transaction plans its queries.

    A rule that fails on an odd row says so in its result, and the others are checked.

    `settled`: nothing of the tenant is under way any more, so rows of any age count. `told` is called with the title of each rule before
    that rule is checked.
    """
    expect_many_rows(connection)
    parameters = parameters_of(tenant_id)
    results = []
    for rule in RULES:
        told(rule.title)
        results.append(_check(connection, rule, ALWAYS if settled else rule.age, parameters))
    return results


def _check(connection: Connection, rule: Rule, age: timedelta, given: Mapping[str, Any]) -> CheckResult:
    def looked(query: str) -> Looked:
        return look(connection, text(query), {**given, "age": age})

    figures = {name: looked(query) for name, query in rule.counts.items()}
    blind = looked(rule.blind) if rule.blind else Looked([])
    found = [looked(query) for query in rule.violations]
    failure = "; ".join(dict.fromkeys(each.failure for each in (*figures.values(), blind, *found) if each.failure))
    return CheckResult(
        code=rule.code,
        title=rule.title,
        counted={name: int(figure.rows[0][0] or 0) for name, figure in figures.items() if figure.rows},
        violations=tuple(str(row[0]) for each in found for row in each.rows),
        unseen="; ".join(filter(None, (*(str(row[0] or "") for row in blind.rows[:1]), failure))),
        failure=failure,
        age=age,
    )


def parameters_of(tenant_id: UUID) -> dict[str, Any]:
    """What the queries of all rules may use, but for the age."""
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
