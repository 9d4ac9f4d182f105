"""The table of retries: the page shows it, the code takes its numbers from it, and each row names a test that shows its bound."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from pathlib import Path
from unittest.mock import create_autospec

import pytest
from sqlalchemy import create_engine

from domain import retry_rules
from domain.retry_rules import NO_CALL, RetryRule
from reconciliation.loop import Intervals, Reconciler
from tests.support.retries_page import PAGE, page, rules, without_end
from workers.runtime.engine import Engine

ROOT = Path(__file__).parents[2]
RULES = rules()
SOURCES = "".join(
    path.read_text() for folder in ("domain", "workers", "reconciliation") for path in (ROOT / folder).rglob("*.py") if path.name != "retry_rules.py"
)  # fmt: skip
NOT_READ = {"INSTANCE_KEPT": "its pauses are those of SWEEP_FAILED, and of the looks of `reconciliation/instances.py`"}
WRITTEN = {
    target.id: {str(each.arg): each.value for each in statement.value.keywords}
    for statement in ast.parse(Path(retry_rules.__file__).read_text()).body
    if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)
    for target in statement.targets
    if isinstance(target, ast.Name) and target.id in RULES
}
"""Name of a row -> field -> the expression that the source gives to this field."""
OWN_ROWS = "it changes only rows of the database, once for each, so a row that fails is all there is to try again"
SWEEPS: Mapping[str, Collection[str] | str] = {
    "start": {"START_UNKNOWN"},
    "step": {"PROVIDER_UNKNOWN", "PROVIDER_ACCEPTED"},
    "cancellation": {"PROVIDER_UNKNOWN"},
    "contradiction": {"PROVIDER_UNKNOWN"},
    "approval": {"TASK_KEPT"},
    "instance": {"INSTANCE_KEPT"},
    "duplicate": {"INSTANCE_KEPT"},
    "case-start": {"CASE_PROCESS"},
    "refused-event": {"EVENT_REFUSED"},
    "order": OWN_ROWS,
    "case": OWN_ROWS,
    "quote": OWN_ROWS,
    "callback": OWN_ROWS,
    "deadline": OWN_ROWS,
    "orphan": OWN_ROWS,
    "called": OWN_ROWS,
    "unattended": OWN_ROWS,
    "incident": OWN_ROWS,
    "assignee": "it queues the assignment of a task, which is the row of workflow commands",
    "projection": "it builds a stale row again from the tables, which any later event does as well",
    "audit": "it only reads",
    "gauges": "it only reads",
    "finding": "it asks the engine only whether an instance has ended, and marks its own row",
}
"""Sweep -> the rows of what it tries again, or why it tries nothing again."""


def root_of(name: str, number: str) -> str:
    """The row in which this number of a row stands: one row may take a number from another one."""
    value = WRITTEN[name].get(number)
    if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
        return root_of(value.value.id, value.attr)
    return name


def test_the_page_of_retries_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make retries`"


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_code_takes_its_numbers_from_the_table(name: str) -> None:
    numbers = WRITTEN[name].keys() & {"attempts", "time", "first_wait", "longest_wait"}
    roots = {root_of(name, number) for number in numbers}

    assert all(re.search(rf"\b{root}\b", SOURCES) for root in roots) != (name in NOT_READ)


@pytest.mark.parametrize("name", sorted(name for name, rule in RULES.items() if rule.call != NO_CALL))
def test_the_code_takes_the_time_of_one_try_from_the_table(name: str) -> None:
    assert re.search(rf"\b{root_of(name, 'call')}\.call\b", SOURCES)


def test_a_row_has_an_end_or_says_why_it_has_none() -> None:
    endless = without_end()

    assert set(endless) == {"PROVIDER_ACCEPTED", "INSTANCE_KEPT", "SWEEP_FAILED", "SERVICE_AWAY", "TASK_IN_OUTAGE"}
    assert all(rule.end.startswith("none") for rule in endless.values())


def test_every_sweep_has_a_row_or_tries_nothing_again() -> None:
    """Kills: a new sweep that asks for something again and again, and that the table does not know."""
    engine = create_autospec(Engine, instance=True)
    interval = timedelta()
    intervals = Intervals(start_safe_interval=interval, attempt_stale_after=interval, request_safe_interval=interval)
    reconciler = Reconciler(create_engine("postgresql+psycopg://"), engine, {}, intervals)

    assert {sweep.kind for sweep in reconciler._sweeps} == set(SWEEPS)
    assert {row for rows in SWEEPS.values() if not isinstance(rows, str) for row in rows} <= set(RULES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_row_names_a_test_that_exists(name: str) -> None:
    file, test = re.fullmatch(r"(\S+): `(\w+)`", RULES[name].test).groups()  # type: ignore[union-attr]

    assert f"def {test}(" in (ROOT / file).read_text()


def test_each_wait_is_as_long_as_all_waits_before_within_the_bounds_of_the_row() -> None:
    rule: RetryRule = retry_rules.START_REFUSED

    waits = [rule.wait_after(waited) for waited in (rule.first_wait * 0, rule.first_wait * 4, rule.longest_wait * 9)]

    assert waits == [rule.first_wait, rule.first_wait * 4, rule.longest_wait]
