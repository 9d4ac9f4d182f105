"""The rules of the audit read what there is a few times over, and compare no row with each other one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from domain.auditing.checking import check
from domain.store.transactions import transaction
from tests.support.database import acting
from tests.support.plans import explained, rows_of
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
