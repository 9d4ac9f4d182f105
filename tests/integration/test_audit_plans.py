"""The rules of the audit read what there is a few times over, and compare no row with each other one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, text

from domain.auditing.checking import check, parameters_of
from domain.auditing.history import TENANTS_APART
from domain.auditing.looking import expect_many_rows
from domain.auditing.projections import PROJECTIONS
from domain.auditing.rule import ALWAYS
from domain.store.transactions import transaction
from tests.support.database import acting
from tests.support.plans import explained, rows_of
from tests.support.planting import OTHER_TENANT
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


MANY = 2_000
OF_ANOTHER_TENANT = (
    """INSERT INTO transition_log SELECT (jsonb_populate_record(CAST(NULL AS transition_log), to_jsonb(l) || jsonb_build_object(
        'id', gen_random_uuid(), 'aggregate_version', 1000 + n, 'emitted_event_id', gen_random_uuid()))).*
    FROM (SELECT * FROM transition_log WHERE tenant_id = :other AND emitted_event_id IS NOT NULL LIMIT 1) l, generate_series(1, :many) n""",
    """INSERT INTO quote SELECT (jsonb_populate_record(CAST(NULL AS quote), to_jsonb(q) || jsonb_build_object(
        'id', gen_random_uuid(), 'quote_number', 'many-' || n))).*
    FROM (SELECT * FROM quote WHERE tenant_id = :other LIMIT 1) q, generate_series(1, :many) n""",
)


def test_the_rules_that_look_into_other_tenants_read_no_more_beside_a_large_one(settled: Settled, planted: Connection) -> None:
    """Kills: an audit of all tenants that reads every tenant once for each tenant."""
    planted.execute(text("SET LOCAL enable_seqscan = off"))  # so that a scan is by tenant wherever the query allows it
    expect_many_rows(planted)
    before = rows_read(settled, planted)

    for statement in OF_ANOTHER_TENANT:
        assert planted.execute(text(statement), {"other": OTHER_TENANT, "many": MANY}).rowcount == MANY

    assert rows_read(settled, planted) < before + MANY


def rows_read(settled: Settled, connection: Connection) -> float:
    with explained(connection) as plans:
        for query in (*PROJECTIONS.violations, *TENANTS_APART.violations):
            connection.execute(text(query), {**parameters_of(settled.tenant_id), "age": ALWAYS})
    return sum(rows_of(plan) for plan in plans)
