"""Guards and moves: a precondition is written once, stands in the WHERE of the write, and names itself when it fails.

Sound only with three rules (architecture.md): a guard may read another table only if that row is immutable, or changes only
together with this row, or was locked first; when the diagnosis finds that all guards hold, the move runs once more and then
answers TRY_AGAIN; a condition on time uses `clock_timestamp()`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import BindParameter, ColumnElement, Text, bindparam, case, func, literal_column, select, update
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from domain.errors import InvalidTransition, Refusal
from domain.store.base import table_of
from domain.store.matrix import Matrix

# Kept apart from column names: SQLAlchemy reserves those in an UPDATE for values that it binds itself.
PREFIX = "in_"


def param(name: str, type_: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """A value that the command carries: its field of that name."""
    return bindparam(PREFIX + name, type_=type_)


class Guard(NamedTuple):
    """One precondition: what must hold, and what the caller is told when it does not."""

    refusal: type[Refusal]
    condition: ColumnElement[bool]


class Check:
    """Guards on one row, without a change: the row is locked FOR SHARE, so what was checked stays true until commit.

    The row is found by its id, which the command carries in the entity's `ID_FIELD`, or by another unique column (`key`).
    """

    registry: ClassVar[dict[str, Check]] = {}

    def __init__(self, entity: Any, name: str, *guards: Guard, key: InstrumentedAttribute[Any] | None = None) -> None:
        self.table = table_of(entity)
        self.name = f"{self.table.name}.{name}"
        column, field = (self.table.c.id, entity.ID_FIELD) if key is None else (self.table.c[key.name], key.name)
        self.identity = (self.table.c.tenant_id == param("tenant_id")) & (column == param(field))
        if self.name in self.registry:
            raise ValueError(f"{self.name} is declared twice")
        self.registry[self.name] = self
        self.protect(guards)

    def protect(self, guards: tuple[Guard, ...]) -> None:
        """(Re)build the statements for these guards; the mutation tests drop one through here."""
        self.guards = guards
        flags = [guard.condition.label(f"guard_{number}") for number, guard in enumerate(guards)]
        self.diagnosis = select(*self.table.c, *flags).where(self.identity)
        self.lock = self.diagnosis.with_for_update(read=True, of=self.table)
        self.parameters = parameters_of(self.diagnosis)

    def first_refusal(self, found: Mapping[str, Any]) -> type[Refusal] | None:
        """The first guard that does not hold on a row of `diagnosis`."""
        # NULL is not true: a guard over a missing row refuses.
        return next((guard.refusal for number, guard in enumerate(self.guards) if found[f"guard_{number}"] is not True), None)


class Move(Check):
    """A guarded transition: one `UPDATE … WHERE guards … RETURNING`, or the named refusal.

    `sets` maps columns to parameters or SQL; `emits` names the event that tells the world; `illegal` names the refusal
    for states that have a more exact answer than INVALID_TRANSITION.
    """

    def __init__(
        self,
        entity: Any,
        matrix: Matrix[Any, Any],
        event: StrEnum,
        *guards: Guard,
        sets: Mapping[InstrumentedAttribute[Any], Any] | None = None,
        emits: str | None = None,
        illegal: Mapping[Any, type[Refusal]] | None = None,
        key: InstrumentedAttribute[Any] | None = None,
    ) -> None:
        self.event = event
        self.emits = emits
        self.targets = matrix.targets(event)
        self.illegal = dict(illegal or {})
        self.sets = {column.name: value for column, value in (sets or {}).items()}
        super().__init__(entity, event.value.lower(), *guards, key=key)

    def protect(self, guards: tuple[Guard, ...]) -> None:
        """(Re)build the guarded UPDATE as well."""
        super().protect(guards)
        status = self.table.c.status
        self.write = (
            update(self.table)
            .where(self.identity, is_one_of(status, *self.targets), *(guard.condition for guard in guards))
            .values(
                status=case({_constant(state): _constant(target) for state, target in self.targets.items()}, value=status),
                prior_status=status,
                version=self.table.c.version + literal_column("1"),
                updated_at=func.clock_timestamp(),
                **self.sets,
            )
            .returning(*self.table.c)
        )
        self.parameters |= parameters_of(self.write)

    def first_refusal(self, found: Mapping[str, Any]) -> type[Refusal] | None:
        """Guards first: they say more than the state does; then the state."""
        if found["status"] in self.targets:
            return super().first_refusal(found)
        return super().first_refusal(found) or self.illegal.get(found["status"], InvalidTransition)


def is_one_of(column: ColumnElement[str] | InstrumentedAttribute[str], *states: StrEnum) -> ColumnElement[bool]:
    """Whether a column has one of these states."""
    return column.in_([_constant(state) for state in sorted(states)])


def _constant(state: StrEnum) -> ColumnElement[str]:
    # Written out, not a parameter: it never differs, and a prepared statement can use a partial index only when it sees the index's own condition.
    return literal_column(f"'{state.value}'", Text())


def parameters_of(statement: Any) -> frozenset[str]:
    """Names of the command fields that a statement wants."""
    return frozenset(
        element.key.removeprefix(PREFIX)
        for element in visitors.iterate(statement)
        if isinstance(element, BindParameter) and element.key.startswith(PREFIX)
    )
