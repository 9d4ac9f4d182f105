"""The conditions of a guard that has several. Each can be removed by itself.

A condition is named by its guard and the column that it reads: `authority_grant.delegate/AUTHORITY_NOT_DELEGABLE on authority_grant.status`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from typing import Any
from unittest.mock import patch

from sqlalchemy import ColumnElement, Select, true
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import operators, visitors
from sqlalchemy.sql.elements import BooleanClauseList

from domain.offers import deciding
from domain.store.moves import Check, Guard
from tests.support.guards import NamedGuard, every_guard

ON = " on "
PLACE = re.compile(r"^array_position\(ARRAY\[[^]]*\], (\S+)\)")
"""The place of a column's value in a list."""
REACHING = "approval_requirement.*/AUTHORITY_EXCEEDED#2"
"""The guard of all three decisions by whose condition `deciding` also finds the grant."""
NAMED = {guard.name: guard for guard in every_guard()}


def guard_of(condition: str) -> NamedGuard:
    """The first guard that has the condition."""
    return _guards(condition)[0]


def columns_of(pattern: str) -> set[str]:
    """The columns that a guard's conditions read; a key that only joins two tables is no condition."""
    return set(_named(_guards(pattern + ON)[0].guard.condition))


@contextmanager
def without_condition(condition: str) -> Iterator[None]:
    """Run the block without one condition of its guards."""
    with ExitStack() as stack:
        for named in _guards(condition):
            stack.enter_context(_changed(named.check, named.position, condition))
        if condition.startswith(REACHING):
            reaching = deciding.reaching
            stack.enter_context(patch.object(deciding, "reaching", lambda *of: _without(reaching(*of), condition)))
        yield


def _guards(condition: str) -> list[NamedGuard]:
    pattern = condition.partition(ON)[0]
    return [guard for name, guard in NAMED.items() if fnmatchcase(name, pattern)]


@contextmanager
def _changed(check: Check, position: int, condition: str) -> Iterator[None]:
    kept = check.guards
    refusal, whole = kept[position]
    check.protect((*kept[:position], Guard(refusal, _without(whole, condition)), *kept[position + 1 :]))
    try:
        yield
    finally:
        check.protect(kept)


def _without(whole: ColumnElement[bool], condition: str) -> ColumnElement[bool]:
    gone = _named(whole)[condition.partition(ON)[2]]
    changed: Any = visitors.replacement_traverse(whole, {}, lambda element, **_: true() if element is gone else None)
    return changed  # type: ignore[no-any-return]  # a condition stays a condition


def _named(whole: Any) -> dict[str, Any]:
    """The conditions by the column that each reads; the second one of a column ends in `#2`."""
    named: dict[str, Any] = {}
    for leaf in _leaves(whole):
        column = _column(leaf)
        if column is not None and not any(leaf is known for known in named.values()):
            number = 1 + sum(name.partition("#")[0] == column for name in named)
            named[column if number == 1 else f"{column}#{number}"] = leaf
    return named


def _leaves(whole: Any) -> list[Any]:
    found = _flat(whole)
    for element in visitors.iterate(whole):
        if isinstance(element, Select):
            found += [leaf for criterion in element._where_criteria for leaf in _flat(criterion)]
    return [leaf for leaf in found if not any(isinstance(part, Select) for part in visitors.iterate(leaf))]


def _flat(clause: Any) -> list[Any]:
    if isinstance(clause, BooleanClauseList) and clause.operator is operators.and_:
        return [leaf for part in clause.clauses for leaf in _flat(part)]
    return [clause]


def _column(leaf: Any) -> str | None:
    """`authority_grant.status` of `coalesce(authority_grant.status = …)`, `authority_grant.role` of `array_position(ARRAY[…], authority_grant.role) >= …`."""
    text = str(leaf.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    left, _, right = PLACE.sub(r"\1", text).removeprefix("coalesce(").lstrip("(").partition(" ")
    joins = left.endswith(("tenant_id", ".id")) or right.endswith(".id")
    return None if joins else left
