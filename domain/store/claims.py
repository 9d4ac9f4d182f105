"""Rows that wait for a check: which are due, and which one process has taken (docs/domain.md#fair-shares-and-leases).

The rule it keeps: a claim moves `next_check_at` into the future, in one statement that skips rows which another process claims meanwhile.
So one process at a time checks a row, and a row of a killed process comes back. No group can keep another one waiting: each gets its
share of a claim, its longest waiting rows first, and which group is first is left to chance, because there may be time for one row only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import (
    CTE,
    Column,
    ColumnElement,
    Connection,
    Interval,
    Row,
    Select,
    Subquery,
    Table,
    TextClause,
    bindparam,
    func,
    select,
    text,
    true,
    tuple_,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql import SQLColumnExpression
from sqlalchemy.sql.dml import ReturningUpdate

from domain.retry_rules import PROVIDER_UNKNOWN

FIRST_WAIT, LONGEST_WAIT = PROVIDER_UNKNOWN.first_wait, PROVIDER_UNKNOWN.longest_wait

# Stable within the statement, so that an index can find the rows; the transaction of a claim has only this statement.
NOW = func.statement_timestamp()
EPOCH = text("TIMESTAMPTZ 'epoch'")
HIGHEST = 2**31 - 1  # that an integer column holds
Claiming: TypeAlias = Select[Any] | ReturningUpdate[Any]


def since(time: ColumnElement[datetime]) -> ColumnElement[timedelta]:
    """How long ago a time was, also for an infinite time, which PostgreSQL does not subtract."""
    now = func.clock_timestamp()
    return now - func.least(now, func.greatest(time, EPOCH))


def one_more(counter: SQLColumnExpression[int]) -> ColumnElement[int]:
    """A counter plus one, or still its highest number, because one full counter must not make a statement fail for every row."""
    return func.least(counter, HIGHEST - 1) + 1


class Checked:
    """Columns of a row that is checked until it is settled: when again, and how often it was checked without news.

    An index over the rows that are not settled, by the columns of their group and `next_check_at`, finds the due ones.
    """

    next_check_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp(), sort_order=92)
    checks: Mapped[int] = mapped_column(server_default="0", sort_order=93)


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """Groups of the rows that `among` (the condition of their partial index) selects, by the leading columns of that index."""

    by: Sequence[Column[Any]]
    among: str

    @property
    def condition(self) -> TextClause:
        return text(f"{self.by[0].table.name}.{self.among}")

    def there_are(self, skip: Collection[str] = ()) -> CTE:
        """Every group, without those whose first column is in `skip`. It steps from one group to the next, and reads no other row."""
        first = select(*self.by).where(self.condition).order_by(*self.by).limit(1).subquery()
        steps = select(first).cte("steps", recursive=True)
        later = select(*self.by).where(self.condition, tuple_(*self.by) > tuple_(*steps.c)).order_by(*self.by).limit(1)
        following = later.correlate(steps).lateral("following")
        steps = steps.union_all(select(*following.c).select_from(steps.join(following, true())))
        found = select(steps)
        return (found.where(next(iter(steps.c)).not_in(skip)) if skip else found).cte("groups")


def fairly(
    rows: Select[Any], groups: Groups, first: Column[Any], limit: int, *, lock: Table | None = None, skip: Collection[str] = ()
) -> Subquery:
    """At most `limit` of `rows`, in turns: of each group the first one by the column `first`, then of each the second one.

    `turn` numbers the rows of a group, and `place` is their place within a turn, by chance. With `lock` the rows of that table stay locked until commit; those locked by others are left out.
    """
    group = groups.there_are(skip)
    share = select(func.greatest(1, limit // func.count())).select_from(group).scalar_subquery()
    of_group = rows.where(groups.condition, *(column == group.c[column.name] for column in groups.by))
    of_group = of_group.correlate(group).order_by(first).limit(share)
    if lock is not None:
        of_group = of_group.with_for_update(of=lock, skip_locked=True)
    own = of_group.lateral("own")
    turn = func.row_number().over(partition_by=list(group.c), order_by=own.c[first.name]).label("turn")
    place = func.random().label("place")
    return select(*own.c, turn, place).select_from(group.join(own, true())).order_by(turn, place).limit(limit).subquery("due")


def claiming(
    rows: Select[Any],
    table: Table,
    groups: Groups,
    *,
    limit: int,
    lease: timedelta | None,
    key: str = "id",
    skip: Collection[str] = (),
) -> Claiming:
    """Make the statement that takes due rows of `table` for `lease`, in turns between the groups. Keep it: making it takes long.

    `key` is the name that `rows` give to the id of the table. A claimed row brings `claim_no`, how often it was claimed since it was due at
    once, `next_check_at` of before, and `leased_until`, which proves the claim: whatever makes the row due anew changes it. Without
    `lease` (a dry run) nothing is taken.
    """
    c = table.c
    due = fairly(
        rows.add_columns(c.next_check_at, c.checks.label("claim_no")).where(c.next_check_at <= NOW),
        groups,
        c.next_check_at,
        limit,
        lock=table if lease else None,
        skip=skip,
    )
    if lease is None:
        return select(due)
    taken = select(due).cte("taken")
    return (
        update(table)
        .where(c.tenant_id == taken.c.tenant_id, c.id == taken.c[key])
        .values(next_check_at=NOW + lease, checks=one_more(c.checks))
        .returning(
            *(column for column in taken.c if column.name != "claim_no"),
            c.checks.label("claim_no"),
            c.next_check_at.label("leased_until"),
        )
    )


def claim(connection: Connection, statement: Claiming) -> list[Row[Any]]:
    """Execute a statement of `claiming`. Returns the claimed rows, in turns between the groups."""
    return sorted(connection.execute(statement), key=lambda row: (row.turn, row.place))


def check_later(connection: Connection, table: Table, waits: Sequence[tuple[Row[Any], timedelta]], *, key: str = "id") -> None:
    """Check claimed rows that are not settled again after these waits.

    A row that was made due or claimed meanwhile stays as it is. So does one that another transaction has locked, until its lease ends.
    """
    later = func.clock_timestamp() + bindparam("wait", type_=Interval())
    _put_back(connection, table, {"next_check_at": later}, [{**_proof(row, key), "wait": wait} for row, wait in waits])


def give_back(connection: Connection, table: Table, rows: Sequence[Row[Any]], *, key: str = "id") -> None:
    """Give back claimed rows that were not checked: they are due as they were before, and the claim does not count."""
    before = {"next_check_at": bindparam("before", type_=table.c.next_check_at.type), "checks": table.c.checks - 1}
    _put_back(connection, table, before, [{**_proof(row, key), "before": row.next_check_at} for row in rows])


def longer(checks: int, longest: timedelta = LONGEST_WAIT) -> timedelta:
    """The wait after so many checks without news: twice as long each time."""
    doubled: int = 2 ** min(checks - 1, 16)
    return min(FIRST_WAIT * doubled, longest)


def _proof(row: Row[Any], key: str) -> dict[str, Any]:
    return {"of_tenant": row.tenant_id, "of_id": row._mapping[key], "leased_until": row.leased_until}


def _put_back(connection: Connection, table: Table, values: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    c, own = table.c, table.alias("own")
    is_leased = own.c.next_check_at == bindparam("leased_until")
    mine = (own.c.tenant_id == bindparam("of_tenant")) & (own.c.id == bindparam("of_id")) & is_leased
    # It waits for nobody: a command may lock two of these rows in another order, and each would wait for the other.
    free = select(own.c.id).where(mine).with_for_update(skip_locked=True).scalar_subquery()
    connection.execute(update(table).where(c.tenant_id == bindparam("of_tenant"), c.id == free).values(**values), rows)
