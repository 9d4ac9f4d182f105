"""The table of retries: the page shows it, the code takes its numbers from it, and each row names a test that shows its bound."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain import retry_rules
from domain.retry_rules import SERVICE_AWAY, TASK_IN_OUTAGE, UNLIMITED_TIME, UNLIMITED_TRIES, RetryRule
from tests.support.retries_page import PAGE, page

ROOT = Path(__file__).parents[2]
RULES = retry_rules.rules()
SOURCES = "".join(
    path.read_text() for folder in ("domain", "workers", "reconciliation") for path in (ROOT / folder).rglob("*.py") if path.name != "retry_rules.py"
)  # fmt: skip
# Other rows are written from these, or the model and the provider's budget set the numbers.
NOT_READ = {"PROVIDER_NOT_SENT"}


def test_the_page_of_retries_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make retries`"


@pytest.mark.parametrize("name", sorted(set(RULES) - NOT_READ))
def test_the_code_takes_its_numbers_from_the_table(name: str) -> None:
    assert re.search(rf"\b{name}\b", SOURCES)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_row_has_an_end(name: str) -> None:
    rule = RULES[name]

    is_bounded = rule.attempts < UNLIMITED_TRIES or rule.time < UNLIMITED_TIME
    assert is_bounded or rule in (SERVICE_AWAY, TASK_IN_OUTAGE)


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_row_names_a_test_that_exists(name: str) -> None:
    file, test = re.fullmatch(r"(\S+): `(\w+)`", RULES[name].test).groups()  # type: ignore[union-attr]

    assert f"def {test}(" in (ROOT / file).read_text()


def test_each_wait_is_as_long_as_all_waits_before_within_the_bounds_of_the_row() -> None:
    rule: RetryRule = retry_rules.START_REFUSED

    waits = [rule.wait_after(waited) for waited in (rule.first_wait * 0, rule.first_wait * 4, rule.longest_wait * 9)]

    assert waits == [rule.first_wait, rule.first_wait * 4, rule.longest_wait]
