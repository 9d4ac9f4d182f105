"""The decision tables in the real engine: a case for each rule, each limit, and facts that no rule names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.models import TENANT
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

pytestmark = pytest.mark.stack

HARMLESS: dict[str, Variable] = {
    "maxDiscountPercent": 10.0,
    "marginPercent": 10.0,
    "dealAmount": 100_000.0,
    "region": "DE-NORTH",
    "productFamily": "CONNECTIVITY",
    "paymentTermDays": 60,
    "priceStale": False,
}
DISCOUNT_RSM, DISCOUNT_DIRECTOR = (1, "DISCOUNT", "approverRsm"), (2, "DISCOUNT", "approverDirector")
FINANCE, MARGIN = (2, "FINANCE", "approverFinance"), (2, "MARGIN", "approverFinance")
PAYMENT_TERMS, STALE_PRICE = (1, "PAYMENT_TERMS", "dealDesk"), (1, "STALE_PRICE", "dealDesk")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"maxDiscountPercent": 10.01}, {DISCOUNT_RSM: "A discount of 10.01 % is more than sales may give alone (10 %)."}),
        ({"maxDiscountPercent": 25.0}, {DISCOUNT_RSM: "A discount of 25.0 % is more than sales may give alone (10 %)."}),
        (
            {"maxDiscountPercent": 25.5},
            {
                DISCOUNT_RSM: "A discount of 25.5 % goes to the director; the regional sales manager must support it first.",
                DISCOUNT_DIRECTOR: "A discount of 25.5 % is more than a regional sales manager may give (25 %).",
            },
        ),
        ({"dealAmount": 100_000.01}, {FINANCE: "A deal above 100,000 is seen by finance, whatever its discount."}),
        ({"paymentTermDays": 61}, {PAYMENT_TERMS: "A payment term of 61 days is outside the standard terms (60 days)."}),
        ({"marginPercent": 9.99}, {MARGIN: "A margin of 9.99 % is below the healthy level (10 %)."}),
        ({"marginPercent": -4.0}, {MARGIN: "A margin of -4.0 % is below the healthy level (10 %)."}),
        (
            {"priceStale": True},
            {STALE_PRICE: "The price list changed after this quote was priced; the old price may stand only if you agree."},
        ),
        (
            {"priceStale": True, "paymentTermDays": 90},
            {
                PAYMENT_TERMS: "A payment term of 90 days is outside the standard terms (60 days).",
                STALE_PRICE: "The price list changed after this quote was priced; the old price may stand only if you agree.",
            },
        ),
    ],
)
def test_the_policy_requires_signatures_and_gives_the_reason(
    engine: Engine, changes: dict[str, Variable], expected: Mapping[tuple[int, str, str], str]
) -> None:
    rows = engine.evaluate(TENANT, "approval-requirements", HARMLESS | changes)
    assert {(row["level"], row["requirementType"], row["approverGroup"]): row["because"] for row in rows} == expected
    assert all(row["slaDuration"] in {"PT24H", "PT48H"} for row in rows)


def test_the_required_authority_is_the_discount_except_for_support_only(engine: Engine) -> None:
    rows = engine.evaluate(TENANT, "approval-requirements", HARMLESS | {"maxDiscountPercent": 30.0})
    assert {row["approverGroup"]: row["minAuthorityDiscountPercent"] for row in rows} == {"approverRsm": 25, "approverDirector": 30}


@pytest.mark.parametrize(
    ("group", "level", "requirement", "expected"),
    [
        ("approverRsm", 0, "DISCOUNT", "approverDirector"),
        ("approverRsm", 3, "DISCOUNT", "approverDirector"),
        ("approverFinance", 0, "MARGIN", "approverDirector"),
        ("approverLegal", 0, "TERMS", "approverDirector"),
        ("approverDirector", 0, "DISCOUNT", "dealDesk"),
        ("approverDirector", 1, "FINANCE", "dealDesk"),
        ("approverDirector", 1, "PAYMENT_TERMS", None),
        ("approverDirector", 1, "STALE_PRICE", None),
        ("dealDesk", 0, "PAYMENT_TERMS", "approverDirector"),
        ("dealDesk", 1, "DISCOUNT", None),
        ("approverBoard", 0, "DISCOUNT", None),
    ],
)
def test_each_group_escalates_to_the_group_above_it(
    engine: Engine, group: str, level: int, requirement: str, expected: str | None
) -> None:
    facts: dict[str, Variable] = {"approverGroup": group, "escalationLevel": level, "requirementType": requirement}
    rows = engine.evaluate(TENANT, "approval-escalation", facts)
    assert rows == ([{"nextApproverGroup": expected, "slaDuration": "PT24H"}] if expected else [])


@pytest.mark.parametrize("requirement", ["DISCOUNT", "FINANCE", "MARGIN", "PAYMENT_TERMS", "STALE_PRICE"])
@pytest.mark.parametrize("group", ["approverRsm", "approverFinance", "approverDirector", "approverLegal", "dealDesk"])
def test_no_chain_of_escalations_is_a_circle(engine: Engine, group: str, requirement: str) -> None:
    seen = [group]
    while rows := _above(engine, seen[-1], len(seen) - 1, requirement):
        seen.append(rows[0]["nextApproverGroup"])
        assert len(seen) == len(set(seen)), seen


def _above(engine: Engine, group: str, level: int, requirement: str) -> list[dict[str, Any]]:
    facts: dict[str, Variable] = {"approverGroup": group, "escalationLevel": level, "requirementType": requirement}
    return engine.evaluate(TENANT, "approval-escalation", facts)


SAME: dict[str, Variable] = {
    "hasBasis": True,
    "discountChange": 0.0,
    "marginChange": 0.0,
    "dealAmountChange": 0.0,
    "paymentTermChange": 0,
    "linesAdded": False,
    "basisAgeDays": 30.0,
    "priceStale": False,
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        (
            {"discountChange": -5.0, "marginChange": 2.5, "dealAmountChange": 300.0, "paymentTermChange": -30, "basisAgeDays": 0.0},
            True,
        ),
        ({"hasBasis": False}, False),
        ({"discountChange": 0.01}, False),
        ({"marginChange": -0.01}, False),
        ({"dealAmountChange": -0.01}, False),
        ({"paymentTermChange": 1}, False),
        ({"linesAdded": True}, False),
        ({"basisAgeDays": 30.01}, False),
        ({"priceStale": True}, False),
        # One worse value is enough, even when all others are better.
        ({"discountChange": 1.0, "marginChange": 5.0, "dealAmountChange": 5_000.0}, False),
    ],
)
def test_signatures_carry_over_only_when_no_value_is_worse(engine: Engine, changes: dict[str, Variable], *, expected: bool) -> None:
    assert engine.evaluate(TENANT, "reapproval-reuse", SAME | changes) == [{"reuse": expected}]
