"""What each statement of a sweep, a claim or a command reads, in buffers of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, PrimaryKeyConstraint, UniqueConstraint, event, text

from domain.schema import METADATA
from tests.support.loading import without_response_timeout

MEASURED = ("SELECT", "WITH", "UPDATE", "INSERT", "DELETE")


PLANNERS = ("SET LOCAL enable_seqscan = on", "SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off")
"""Each leaves the planner less choice than the one before: everything; an index, or a bitmap of it; an index alone."""
UNHURRIED = ("SET LOCAL transaction_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0")
"""Each statement is explained several times, which may take longer than a transaction of the product may."""
WITHOUT_LIMIT = "SET LOCAL statement_timeout = 0"
"""A forced plan may take longer than the limit of a statement. The limit returns with the end of the savepoint, before the statement runs."""
MOVED = 4
"""So many pages more are no growth: a row has moved."""
PAGES_OF_A_SEARCH = 3
"""The root of an index, a leaf of it, and the page of the row."""
NO_WAYS = ("ModifyTable", "Bitmap Heap Scan")
"""Nodes of a plan that name a table, and read it by way of those below them."""
SMALL = 50
"""PostgreSQL may read a table of up to this many pages whole, even if an index would read fewer, because consecutive pages cost less."""


class Cost(NamedTuple):
    """What one plan costs: buffers read, searches of an index, rows looked at, and index entries that it may write."""

    buffers: int = 0
    searches: int = 0
    rows: float = 0
    entries: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(
            self.buffers + other.buffers, self.searches + other.searches, self.rows + other.rows, self.entries + other.entries
        )

    def is_hardly_more_than(self, before: Cost, limit: float) -> bool:
        """Whether it reads hardly more, apart from what a larger index costs.

        An index may be a level deeper than before: then each search, and each entry that is written, reads a page more. And keys that stood
        on one page of it may stand on several: then each is searched for by itself, for the same rows.
        """
        deeper = before.searches + before.entries
        apart = self.searches - before.searches if self.rows <= before.rows else 0
        return self.buffers <= before.buffers * limit + deeper + PAGES_OF_A_SEARCH * max(apart, 0) + MOVED


class Costs:
    """The measurements of each statement: `of` has its costs, one for each planner setting; `ways` has the plans that PostgreSQL chose.

    `found` has the statements that found a row.
    """

    def __init__(self) -> None:
        self.of: dict[str, list[Cost]] = {}
        self.ways: dict[str, set[tuple[str, ...]]] = {}
        self.found: set[str] = set()

    def add(self, statement: str, plans: Sequence[Any]) -> None:
        """Add one execution."""
        before = self.of.get(statement, [Cost()] * len(plans))
        self.of[statement] = [known.plus(_cost(plan)) for known, plan in zip(before, plans, strict=True)]
        self.ways.setdefault(statement, set()).add(tuple(_way(plans[0])))
        rows = plans[0]["Plans"][0] if plans[0]["Node Type"] == "ModifyTable" else plans[0]
        if rows["Actual Rows"]:
            self.found.add(statement)

    def keep_least(self, again: Costs) -> None:
        """Keep the lower of the two costs of each statement, and the plans of both measurements.

        What a statement writes needs more pages at one time than at another: a page has no room left, or a page of an index is split.
        """
        for statement, costs in again.of.items():
            self.of[statement] = [min(both) for both in zip(self.of.get(statement, costs), costs, strict=True)]
            self.ways.setdefault(statement, set()).update(again.ways[statement])
        self.found |= again.found

    def total(self) -> int:
        """The buffers that all statements read as PostgreSQL plans them."""
        return sum(first.buffers for first, *_ in self.of.values())

    def replanned(self, before: Costs) -> dict[str, tuple[set[tuple[str, ...]], set[tuple[str, ...]]]]:
        """The statements that read their tables by way of other indexes than before, or whole, with both ways."""
        return {
            statement: (before.ways[statement], ways)
            for statement, ways in self.ways.items()
            if ways != before.ways.get(statement, ways)
        }

    def grown(self, limit: float, before: Costs) -> dict[str, tuple[list[Cost], list[Cost]]]:
        """The statements that read more than `limit` times what they read before, with both costs.

        A statement has not grown when there is a plan that costs hardly more than before, and PostgreSQL chooses none that costs more than
        this one, unless it is small.
        """
        return {
            statement: (before.of.get(statement, []), now)
            for statement, now in self.of.items()
            if not any(
                cost.is_hardly_more_than(known, limit) and (now[0].buffers <= SMALL or now[0].is_hardly_more_than(cost, limit))
                for cost, known in zip(now, before.of.get(statement, []), strict=False)
            )
        }


@contextmanager
def measuring(database: Engine) -> Iterator[Costs]:
    """Measure every statement on a pool: each is explained before it is executed, and what explaining it writes is undone."""
    costs = Costs()

    # SQLAlchemy gives the last argument by its place.
    def explain(connection: Connection, _: Any, statement: str, parameters: Any, __: Any, is_for_many: bool) -> None:  # noqa: FBT001
        if statement.lstrip().startswith(MEASURED):
            for setting in UNHURRIED:
                connection.exec_driver_sql(setting)
            for given in parameters if is_for_many else [parameters]:
                costs.add(statement, _plans_of(connection, statement, given))

    event.listen(database, "before_cursor_execute", explain)
    try:
        yield costs
    finally:
        event.remove(database, "before_cursor_execute", explain)


def _plans_of(connection: Connection, statement: str, parameters: Any) -> list[Any]:
    plans = []
    with connection.begin_nested() as savepoint, without_response_timeout(connection):
        connection.exec_driver_sql(WITHOUT_LIMIT)
        for planner in PLANNERS:
            connection.exec_driver_sql(planner)
            with connection.begin_nested() as written:
                explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
                [[told]] = explained.scalars()
                written.rollback()
            plans.append(told["Plan"])
        savepoint.rollback()
    return plans


def _cost(plan: Any) -> Cost:
    scans = list(_scans(plan))
    return Cost(
        buffers=plan["Shared Hit Blocks"] + plan["Shared Read Blocks"],
        # PostgreSQL 18 tells how often a list of values makes it search an index.
        searches=sum(int(scan.get("Index Searches", scan["Actual Loops"])) for scan in scans if "Index Name" in scan),
        rows=sum((scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) * scan["Actual Loops"] for scan in scans),
        entries=sum(_entries(scan) for scan in scans if scan["Node Type"] == "ModifyTable"),
    )


def _entries(write: Any) -> int:
    """The index entries that a write may make: one in each index of the table, for each row that it inserts or updates."""
    table = METADATA.tables[write["Relation Name"]]
    unique = [each for each in table.constraints if isinstance(each, UniqueConstraint | PrimaryKeyConstraint)]
    rows = sum(part["Actual Rows"] * part["Actual Loops"] for part in write["Plans"] if part["Parent Relationship"] == "Outer")
    return 0 if write["Operation"] == "Delete" else int(rows) * (len(table.indexes) + len(unique))


def _way(plan: Any) -> list[str]:
    """By which indexes a plan reads its tables, and which it reads whole. A bitmap of an index is no other way than the index."""
    by = {
        scan.get("Index Name") or f"the whole of {scan['Relation Name']}"
        for scan in _scans(plan)
        if scan["Node Type"] not in NO_WAYS
    }
    return sorted(by)


def _scans(plan: Any) -> Iterator[Any]:
    """The parts of a plan that read a table or an index."""
    if "Index Name" in plan or "Relation Name" in plan:
        yield plan
    for part in plan.get("Plans", ()):
        yield from _scans(part)


def analyze(engine: Engine) -> None:
    """Gather statistics, set the hint bits and make the indexes compact: every measurement begins with tables in the same state.

    The server must not do it by itself meanwhile. While it analyses a table, no VACUUM can mark a page as visible to all, and an index that
    earlier measurements have written to has more pages than its rows need.
    """
    autocommit = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    with autocommit as connection, without_response_timeout(connection):
        connection.detach()  # nobody else gets this session, which has no time limit
        connection.execute(text("SET statement_timeout = 0"))
        for table in METADATA.sorted_tables:
            connection.execute(text(f"ALTER TABLE {table.name} SET (autovacuum_enabled = false)"))
        for table in METADATA.sorted_tables:
            connection.execute(text(f"REINDEX TABLE {table.name}"))
            connection.execute(text(f"VACUUM ANALYZE {table.name}"))
