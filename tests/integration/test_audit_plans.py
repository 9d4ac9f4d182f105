"""The rules of the audit read what there is a few times over, and compare no row with each other one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from domain.auditing.checking import check
from domain.store.transactions import transaction
from tests.support.database import acting
from tests.support.settled import Settled
from tests.support.sweep_selections import EXCERPTS

OFTEN = 50
"""How many times, on average, the plan of a rule may look at each row of the log."""


def audit_quotes(settled: Settled, connection: Connection) -> None:
    quotes = list(connection.scalars(text("SELECT id FROM quote WHERE tenant_id = :tenant"), {"tenant": settled.tenant_id}))
    list(EXCERPTS.violations(connection, settled.tenant_id, quotes, settled=True))


def audit_tenant(settled: Settled, connection: Connection) -> None:
    check(connection, settled.tenant_id)


@pytest.mark.parametrize(("process", "audit"), [("reconcile", audit_quotes), ("audit", audit_tenant)])
def test_no_rule_compares_each_row_with_each_other_one(
    settled: Settled, process: str, audit: Callable[[Settled, Connection], None]
) -> None:
    """Kills: nested loops, by which a rule takes minutes for a few hundred quotes."""
    logged = text("SELECT count(*) FROM transition_log WHERE tenant_id = :tenant")
    with transaction(acting(settled.offers.engine, process), settled.tenant_id) as connection:
        rows = connection.scalar(logged, {"tenant": settled.tenant_id})
        with explained(connection) as plans:
            audit(settled, connection)

    assert len(plans) > len(EXCERPTS.queries)
    assert max(rows_of(plan) for plan in plans) < OFTEN * rows


def rows_of(plan: Mapping[str, Any]) -> float:
    """Count the rows that a plan looked at, in all its parts together."""
    left_out = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    own: float = (plan["Actual Rows"] + left_out) * plan["Actual Loops"]
    return own + sum(rows_of(part) for part in plan.get("Plans", ()))


@contextmanager
def explained(connection: Connection) -> Iterator[list[Mapping[str, Any]]]:
    """Collect the plan of each query, as it is carried out."""
    plans: list[Mapping[str, Any]] = []

    def explain(_: Connection, cursor: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.lstrip().startswith(("WITH", "SELECT")):
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters)
            plans.append(cursor.fetchone()[0][0]["Plan"])

    event.listen(connection, "before_cursor_execute", explain)
    yield plans
    event.remove(connection, "before_cursor_execute", explain)
