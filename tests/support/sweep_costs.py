"""What each statement of a sweep, a claim or a command reads, in buffers of PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, event, text

from domain.schema import METADATA

MEASURED = ("SELECT", "WITH", "UPDATE", "INSERT", "DELETE")


PLANNERS = ("SET LOCAL enable_seqscan = on", "SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off")
"""Each leaves the planner less choice than the one before: everything; an index, or a bitmap of it; an index alone."""
MOVED = 4
"""So many pages more are no growth: a row has moved."""
SMALL = 50
"""PostgreSQL may read a table of so many pages whole, even if an index would read fewer: consecutive pages cost less."""


class Cost(NamedTuple):
    """What one plan reads, in buffers, and how often it searches an index."""

    buffers: int = 0
    searches: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(self.buffers + other.buffers, self.searches + other.searches)

    def is_hardly_more_than(self, before: Cost, limit: float) -> bool:
        """An index may have got a level deeper meanwhile: then each search in it reads a page more."""
        return self.buffers <= before.buffers * limit + before.searches + MOVED


class Costs:
    """What each statement costs with each setting of the planner, and which statements found a row."""

    def __init__(self) -> None:
        self.of: dict[str, list[Cost]] = {}
        self.found: set[str] = set()

    def add(self, statement: str, plans: Sequence[Any]) -> None:
        """Add one execution."""
        before = self.of.get(statement, [Cost()] * len(plans))
        self.of[statement] = [known.plus(_cost(plan)) for known, plan in zip(before, plans, strict=True)]
        rows = plans[0]["Plans"][0] if plans[0]["Node Type"] == "ModifyTable" else plans[0]
        if rows["Actual Rows"]:
            self.found.add(statement)

    def total(self) -> int:
        """The buffers that all statements read as PostgreSQL plans them."""
        return sum(first.buffers for first, *_ in self.of.values())

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

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.lstrip().startswith(MEASURED):
            costs.add(statement, _plans_of(connection, statement, parameters))

    event.listen(database, "before_cursor_execute", explain)
    try:
        yield costs
    finally:
        event.remove(database, "before_cursor_execute", explain)


def _plans_of(connection: Connection, statement: str, parameters: Any) -> list[Any]:
    plans = []
    with connection.begin_nested() as savepoint:
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
    return Cost(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], _searches(plan))


def _searches(plan: Any) -> int:
    # PostgreSQL 18 tells how often a list of values makes it search an index.
    own = plan.get("Index Searches", plan["Actual Loops"]) if "Index Name" in plan else 0
    return int(own) + sum(map(_searches, plan.get("Plans", ())))


def analyze(engine: Engine) -> None:
    """Gather statistics and set the hint bits, as the server does by itself after a while."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for table in METADATA.sorted_tables:  # one by one, because a statement may take only some seconds
            connection.execute(text(f"VACUUM ANALYZE {table.name}"))
