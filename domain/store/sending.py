"""Writes that return nothing, sent together: one statement and one round trip, whatever the number of rows and tables.

Each write is a part of that statement (`WITH … INSERT/UPDATE`). The parts see one snapshot and not each other, so writes that could meet
never share a statement: the collected writes are sent before one that touches the same table. Rows travel as JSON, so the statement is the same
whatever their number; its columns follow the models, so it never falls behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Insert,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    column,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql import visitors

from domain.store.base import table_of
from domain.store.declared import run
from domain.store.facts import WorkflowCommand

Shape = tuple[Table, tuple[str, ...]]
"""A table, and the columns that its rows bring."""


class Writes:
    """The writes of the next round trip."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: dict[Shape, list[Mapping[str, Any]]] = {}
        self._statements: dict[Insert | Update, Mapping[str, Any]] = {}
        self._touched: set[Table] = set()

    def insert(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Collect rows; rows that are inserted into one table never meet each other."""
        if table in self._touched:
            self.send()
        for row in rows:
            self._rows.setdefault((table, tuple(row)), []).append(row)

    def run(self, statement: Insert | Update, values: Mapping[str, Any]) -> None:
        """Collect a statement that is declared once and has parameters of its own (`named`)."""
        touched = _tables_of(statement)
        if not touched.isdisjoint(self._touched) or any(table in touched for table, _ in self._rows):
            self.send()
        self._statements[statement] = values
        self._touched |= touched

    def send(self) -> None:
        """Send the collected writes, if there are any."""
        if not (self._rows or self._statements):
            return
        values = {f"rows_{number}": to_json(rows) for number, rows in enumerate(self._rows.values())}
        for given in self._statements.values():
            values |= given
        statement = _together(tuple(self._rows), tuple(self._statements))
        self._rows, self._statements, self._touched = {}, {}, set()
        run(self._connection, statement, values)


def named(table: Any, field: str) -> str:
    """A parameter name that no other table's statement has, and no column."""
    return f"{table.name}__{field}"


def to_json(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """Rows, or one row, as JSON for the database. Raises TypeError for a value that is not plain, such as an SQL expression."""
    return orjson.dumps(rows, default=_plain).decode()


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


@cache
def change_of(table: Table, columns: tuple[str, ...]) -> Update:
    """The statement that sets these columns of one row; parameters `tenant_id`, `id`, and `new_…` for each column."""
    mine = (table.c[name] == bindparam(named(table, name)) for name in ("tenant_id", "id"))
    return (
        update(table)
        .where(*mine)
        .values({name: bindparam(named(table, f"new_{name}"), type_=table.c[name].type) for name in columns})
    )


@cache
def _together(shapes: tuple[Shape, ...], statements: tuple[Insert | Update, ...]) -> Insert | Update:
    writes: list[Insert | Update] = [
        *(_insertion(table, columns, f"rows_{number}") for number, (table, columns) in enumerate(shapes)),
        *statements,
    ]
    *others, last = writes
    return last.add_cte(*(write.cte(f"write_{number}") for number, write in enumerate(others))) if others else last


def _insertion(table: Table, columns: tuple[str, ...], parameter: str) -> Insert:
    row: ColumnElement[Any] = literal_column(f"NULL::{table.name}")
    rows = func.jsonb_populate_recordset(row, _as_jsonb(parameter)).table_valued(name="r")
    return insert(table).from_select(columns, select(*(column(name) for name in columns)).select_from(rows), include_defaults=False)


def _as_jsonb(parameter: str) -> Any:
    return cast(bindparam(parameter, type_=Text()), JSONB)


@cache
def _tables_of(statement: Insert | Update) -> frozenset[Table]:
    return frozenset(element for element in visitors.iterate(statement) if isinstance(element, Table))


def _ask_engine() -> Insert:
    table = table_of(WorkflowCommand)
    given = [
        column(name, table.c[name].type)
        for name in ("tenant_id", "id", "version", "status", "kind", "name", "business_key", "variables")
    ]
    after: ColumnElement[float] = column("expires_after_seconds", Double())
    rows = func.jsonb_to_recordset(_as_jsonb(named(table, "rows"))).table_valued(*given, after).render_derived(with_types=True)
    expires_at = func.clock_timestamp() + after * literal_column("interval '1 second'")
    return insert(table).from_select(
        [*(c.name for c in given), "expires_at"], select(*given, expires_at).select_from(rows), include_defaults=False
    )


ASK_ENGINE = _ask_engine()
"""Inserts workflow commands from JSON (`rows`), each with the seconds after which it no longer matters, or null."""
