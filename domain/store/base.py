"""What every table has (a tenant, an id, constraint names by one convention), and what an aggregate adds.

Constraint names are deterministic, so that code and tests can name the constraint that decides a race.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    DDL,
    TIMESTAMP,
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Numeric,
    Row,
    Table,
    Text,
    Uuid,
    event,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMES)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        UUID: Uuid(),
        str: Text(),
        int: Integer(),
        datetime: TIMESTAMP(timezone=True),
        Decimal: Numeric(14, 2),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }


class Owned:
    """A row of one tenant. The tenant leads every key, so that keys of two tenants never collide."""

    tenant_id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-10)
    id: Mapped[UUID] = mapped_column(primary_key=True, sort_order=-9)
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=90)


class Aggregate(Owned):
    """A row that changes by moves only: each move adds one to `version` and keeps the former state.

    `prior_status` lets one `UPDATE … RETURNING` return both ends of a transition on every supported PostgreSQL.
    `ID_FIELD` is the name under which commands carry the row's id.
    """

    ID_FIELD: ClassVar[str]

    version: Mapped[int] = mapped_column(BigInteger, sort_order=-8)
    status: Mapped[str] = mapped_column(sort_order=-7)
    prior_status: Mapped[str | None] = mapped_column(sort_order=-6)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=91)


def ref(target: str, column: str | None = None, *, of: Mapping[str, str] | None = None, **options: Any) -> ForeignKeyConstraint:
    """Foreign key within the tenant: `ref("quote")` ties `quote_id` to `quote.id`.

    `of` ties further columns, so that what a row names belongs together: `ref("price_result", of={"quote_revision_id": "revision_id"})`
    is a price of the very revision that the row names.
    """
    pairs = {"tenant_id": "tenant_id", **(of or {}), column or f"{target}_id": "id"}
    return ForeignKeyConstraint(list(pairs), [f"{target}.{name}" for name in pairs.values()], **options)


def sql_list(words: Iterable[str]) -> str:
    """Words as SQL writes them after IN: `('A', 'B')`."""
    return f"({', '.join(repr(str(word)) for word in words)})"


def check_in(column: str, words: type[StrEnum]) -> CheckConstraint:
    """The CHECK that keeps a column inside an enumeration."""
    return CheckConstraint(f"{column} IN {sql_list(words)}", name=column)


def ddl(statement: str) -> DDL:
    """A statement that runs after its table is created; `%` is doubled for SQLAlchemy."""
    return DDL(statement.replace("%", "%%"))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped


# What a transaction deletes must stand in the archive file that it names, which is registered and has not been settled yet.
DELETES_ARCHIVED = ddl("""
CREATE OR REPLACE FUNCTION deletes_archived() RETURNS BOOLEAN LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (SELECT FROM archive_file WHERE settled_at IS NULL AND id::TEXT = current_setting('q2o.archive_file', true));
END $$""")
REFUSE_CHANGE = ddl("""
CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND deletes_archived() THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'evidence in % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$""")


def append_only(table: Any, *, until_old: bool = False, may: str = "") -> None:
    """Make evidence stay: the database refuses UPDATE and DELETE on this table (docs/domain.md#principles).

    A row may be deleted when it is archived (decision 0038). With `until_old`, whoever has the right may delete it without an archive.
    `may` is the one change that is allowed, as SQL about the rows OLD and NEW.
    """
    name = table.__table__.name
    refused = "UPDATE" if until_old else "UPDATE OR DELETE"
    each = f"FOR EACH ROW WHEN (NOT ({may}))" if may else "FOR EACH STATEMENT"
    event.listen(table.__table__, "after_create", DELETES_ARCHIVED)
    event.listen(table.__table__, "after_create", REFUSE_CHANGE)
    event.listen(
        table.__table__,
        "after_create",
        ddl(f"CREATE TRIGGER {name}_append_only BEFORE {refused} ON {name} {each} EXECUTE FUNCTION refuse_change()"),
    )


class UnreadableJson:
    """Stands for a stored document that cannot be read. It has nothing in it, so whoever uses it fails; whoever only shows its row does not."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def as_json(value: Any) -> Any:
    """Rows as JSON: keys in camelCase, ids and money as text, times in ISO 8601. A document that cannot be read says so."""
    kind = type(value)
    if kind in _AS_IS:
        return value
    if kind is UUID or kind is Decimal:
        return str(value)
    if isinstance(value, date):  # a datetime is one too
        return value.isoformat()
    if kind is UnreadableJson:
        return {"unreadable": value.reason}
    if isinstance(value, Mapping):
        return {camel(str(name)): as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list | tuple) else value


def without(row: Row[Any], *names: str) -> dict[str, Any]:
    """A row as a mapping, without these columns."""
    return {name: value for name, value in row._mapping.items() if name not in names}


def in_camel_case(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with keys in camelCase. Ids, money and times stay as they are, because `to_json` encodes them."""
    return {camel(name): value if type(value) in _ENCODED else as_json(value) for name, value in row.items()}


# Compared by exact type, which is fast: almost every value of a row is one of these, and every event carries a row.
_AS_IS = frozenset({str, int, float, bool, type(None)})
_ENCODED = _AS_IS | {UUID, Decimal, datetime}


@cache
def camel(name: str) -> str:
    """`quote_revision_id` -> `quoteRevisionId`."""
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


def table_of(entity: Any) -> Table:
    """The table behind a declarative class."""
    table = entity.__table__
    assert isinstance(table, Table)  # noqa: S101 - narrows a type SQLAlchemy leaves open
    return table
