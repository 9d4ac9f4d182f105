"""The plans of queries as they are carried out, and how many rows they look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event


def rows_of(plan: Mapping[str, Any]) -> float:
    """Count the rows that a plan looked at, in all its parts together."""
    left_out = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    own: float = (plan["Actual Rows"] + left_out) * plan["Actual Loops"]
    return own + sum(rows_of(part) for part in plan.get("Plans", ()))


@contextmanager
def explained(connection: Connection) -> Iterator[list[Mapping[str, Any]]]:
    """Collect the plan of each query that is carried out in the block."""
    plans: list[Mapping[str, Any]] = []

    def explain(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.lstrip().startswith(("WITH", "SELECT")):
            [explained] = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar_one()
            plans.append(explained["Plan"])

    event.listen(connection, "before_cursor_execute", explain)
    yield plans
    event.remove(connection, "before_cursor_execute", explain)
