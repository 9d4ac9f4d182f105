"""Guards and moves: a precondition is written once. It stands in the WHERE of the write, and names itself when it fails.

A guard that reads another table or a clock is sound only under three rules: docs/architecture.md#three-rules-for-guards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

from sqlalchemy import BindParameter, Column, ColumnElement, Text, bindparam, case, func, literal_column, select, update
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.sql import visitors
from sqlalchemy.types import TypeEngine

from domain.errors import Forbidden, InvalidTransition, Refusal
from domain.store.base import table_of
from domain.store.matrix import Matrix

# Kept apart from column names: SQLAlchemy reserves those in an UPDATE for values that it binds itself.
PREFIX = "in_"


def param(name: str, type_: TypeEngine[Any] | None = None) -> BindParameter[Any]:
    """The value of the command's field of this name."""
    return bindparam(PREFIX + name, type_=type_)


class Guard(NamedTuple):
    """One precondition: the condition that must hold, and the refusal that is raised when it does not."""

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
        """(Re)build the statements for these guards; the mutants take a guard away here."""
        self.guards = guards
        flags = [guard.condition.label(f"guard_{number}") for number, guard in enumerate(guards)]
        self.diagnosis = select(*self.table.c, *flags).where(self.identity)
        self.lock = self.diagnosis.with_for_update(read=True, of=self.table)
        self.parameters = parameters_of(self.diagnosis)

    def first_refusal(self, found: Mapping[str, Any]) -> type[Refusal] | None:
        """The first guard that does not hold on a row of `diagnosis`."""
        return next((guard.refusal for guard in self._failed(found)), None)

    def _failed(self, found: Mapping[str, Any]) -> Iterator[Guard]:
        # NULL is not true: a guard over a missing row refuses.
        return (guard for number, guard in enumerate(self.guards) if found[f"guard_{number}"] is not True)


class Move(Check):
    """A guarded transition: one `UPDATE … WHERE guards … RETURNING`, or the named refusal.

    `sets` maps columns to parameters or SQL; `emits` names the event for the outbox; `illegal` names the refusal
    for states that have a more exact one than INVALID_TRANSITION; `end_first`: see `first_refusal`.
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
        end_first: bool = False,
    ) -> None:
        self.event = event
        self.emits = emits
        self.targets = matrix.targets(event)
        self.ends = matrix.final if end_first else frozenset[Any]()
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
        """The guards come first, because they say more than the state; then the state.

        With `end_first`, in a state that nothing leaves, a guard on other rows would say what the end did to them, and not why this is
        refused. There, only guards on the row's own status and version come first, and those that say who may.
        """
        if found["status"] in self.targets:
            return super().first_refusal(found)
        failed = (guard for guard in self._failed(found) if found["status"] not in self.ends or self._is_of_the_row(guard))
        return next((guard.refusal for guard in failed), self.illegal.get(found["status"], InvalidTransition))

    def _is_of_the_row(self, guard: Guard) -> bool:
        columns = {element for element in visitors.iterate(guard.condition) if isinstance(element, Column)}
        return issubclass(guard.refusal, Forbidden) or columns <= {self.table.c.status, self.table.c.version}


def is_one_of(column: ColumnElement[str] | InstrumentedAttribute[str], *states: StrEnum) -> ColumnElement[bool]:
    """Whether a column has one of these states."""
    return column.in_([_constant(state) for state in sorted(states)])


def _constant(state: StrEnum) -> ColumnElement[str]:
    # A literal, not a parameter: it never differs, and a prepared statement uses a partial index only when its text has the index's condition.
    return literal_column(f"'{state.value}'", Text())


def parameters_of(statement: Any) -> frozenset[str]:
    """Names of the command fields that a statement needs."""
    return frozenset(
        element.key.removeprefix(PREFIX)
        for element in visitors.iterate(statement)
        if isinstance(element, BindParameter) and element.key.startswith(PREFIX)
    )
