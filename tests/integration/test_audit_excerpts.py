"""Among what belongs to some quotes, the rules find the same faults as in a whole tenant, and none in a good history."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from domain.auditing.checking import RULES
from domain.store.transactions import transaction
from tests.support.bad_histories import IN_DATABASE
from tests.support.database import acting
from tests.support.planting import follow
from tests.support.settled import Settled
from tests.support.sweep_selections import EXCERPTS

WHOLE_TENANT_ONLY = {"I2", "I27", "I28", "I30", "I32"}
# What belongs to no quote, or has lost its own, so that only the audit of a whole tenant sees it.
OUTSIDE_OF_A_QUOTE = {
    "a refusal without code",
    "a view of no order",
    "a decision that counts twice",
    "an event that a consumer made up",
    "a signature reused from another quote",
    "an acceptance without order",
    "a decision about another subject's form",
}


IN_AN_EXCERPT = {
    name: history for name, history in IN_DATABASE.items() if history[0] not in WHOLE_TENANT_ONLY and name not in OUTSIDE_OF_A_QUOTE
}


@pytest.mark.parametrize(("code", "statements"), IN_AN_EXCERPT.values(), ids=IN_AN_EXCERPT)
def test_a_fault_is_found_among_what_belongs_to_a_quote(
    settled: Settled, planted: Any, code: str, statements: tuple[str, ...]
) -> None:
    for statement in statements:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    if code not in {"I20", "I21"}:
        follow(planted, settled.tenant_id)

    assert code in codes(settled, planted)


def codes(settled: Settled, connection: Any) -> set[str]:
    """The invariants that are violated among the tenant's quotes, as if everything were old."""
    quotes = list(connection.scalars(text("SELECT id FROM quote WHERE tenant_id = :tenant"), {"tenant": settled.tenant_id}))
    return {code for code, _ in EXCERPTS.violations(connection, settled.tenant_id, quotes, settled=True)}


def test_an_excerpt_of_a_good_history_passes(settled: Settled) -> None:
    with settled.offers.engine.connect() as connection:
        quotes = list(connection.scalars(text("SELECT id FROM quote WHERE tenant_id = :tenant"), {"tenant": settled.tenant_id}))
        found = [list(EXCERPTS.violations(connection, settled.tenant_id, [each], settled=True)) for each in quotes]

    assert found == [[]] * len(quotes)


def test_the_login_of_reconciliation_may_read_every_excerpt(settled: Settled) -> None:
    with transaction(acting(settled.offers.engine, "reconcile"), settled.tenant_id) as connection:
        assert list(EXCERPTS.violations(connection, settled.tenant_id, [], settled=True)) == []


def test_rules_that_need_a_whole_tenant_are_left_to_the_command() -> None:
    swept = {RULES[number].code for number, _ in EXCERPTS.queries}

    assert {rule.code for rule in RULES} - swept == {"I2", "I28", "I30"}
