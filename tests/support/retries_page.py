"""Writes the page docs/retries.md: what is tried again, how often, and what happens at the end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from domain import retry_rules
from domain.retry_rules import NO_CALL, UNLIMITED_TIME, UNLIMITED_TRIES, RetryRule


@dataclass(frozen=True, slots=True, kw_only=True)
class NotRetried:
    """An operation that nothing retries, or that does not exist yet."""

    operation: str
    why: str


NOT_RETRIED = (
    NotRetried(
        operation="read catalog",
        why="does not exist yet: the catalog is a part of the product, and nothing is read from outside",
    ),
    NotRetried(operation="price preview", why="does not exist yet: a quote is priced by a command, which is the row of commands"),
    NotRetried(
        operation="save quote edit",
        why="never: an edit names the version that its person saw, and a conflict is answered 409 for that person to decide",
    ),
    NotRetried(operation="send notification", why="does not exist yet: NOTIFY_CUSTOMER is a provider request, which has its rows"),
    NotRetried(operation="payment capture", why="does not exist yet"),
)
PAGE = Path(__file__).parents[2] / "docs" / "retries.md"
HEAD = """# Retries

Made by `make retries` from `domain/retry_rules.py`, where the code takes its numbers. Each wait is twice the one before. *Time in all*
begins with the first failure, or with what the record names; *one try* is the time limit of a call. A command for the engine has its own
time for each class of failure; of the time between two failures, at most the longest wait and one call count, for the later one, so an
outage in between does not. What ends in a case is asked for again by the resolution RETRY of that case; the case says what was tried, how
often, since when, and the last reason. Every loop has an end, except those that the last section names.

"""
COLUMNS = (
    "operation", "class of failure", "tries", "back-off", "time in all", "one try", "what makes a repeat harmless", "record", "at the end", "shown by",
)  # fmt: skip
WITHOUT_END = """
## Without an end

| operation | class of failure | rate | why |
|---|---|---|---|
"""
AFTER = """
## Not retried

| operation | why |
|---|---|
"""


def rules() -> dict[str, RetryRule]:
    """Every row of the table, by name."""
    return {name: value for name, value in vars(retry_rules).items() if isinstance(value, RetryRule)}


def page() -> str:
    """The whole page."""
    rows = [_line(*COLUMNS), "|" + "---|" * len(COLUMNS), *(_row(rule) for rule in rules().values())]
    endless = [_line(rule.operation, rule.failure, _waits(rule), rule.end) for rule in without_end().values()]
    not_retried = [_line(each.operation, each.why) for each in NOT_RETRIED]
    return HEAD + _lines(rows) + AFTER + _lines(not_retried) + WITHOUT_END + _lines(endless)


def without_end() -> dict[str, RetryRule]:
    """The rows whose tries end only when something else happens."""
    return {name: rule for name, rule in rules().items() if (rule.attempts, rule.time) == (UNLIMITED_TRIES, UNLIMITED_TIME)}


def _lines(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _waits(rule: RetryRule) -> str:
    return f"{_short(rule.first_wait)} to {_short(rule.longest_wait)}"


def _row(rule: RetryRule) -> str:
    tries = "–" if rule.attempts == UNLIMITED_TRIES else str(rule.attempts)
    in_all = "–" if rule.time == UNLIMITED_TIME else _short(rule.time)
    one = "–" if rule.call == NO_CALL else _short(rule.call)
    return _line(
        rule.operation, rule.failure, tries, _waits(rule), in_all, one, rule.identity, rule.record, rule.end, _shown_by(rule)
    )


def _shown_by(rule: RetryRule) -> str:
    file, _, test = rule.test.partition(": ")
    return f"`{file}`: {test}"


def _short(duration: timedelta) -> str:
    for unit, seconds in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if duration.total_seconds() >= seconds and duration.total_seconds() % seconds == 0:
            return f"{duration.total_seconds() / seconds:g} {unit}"
    return f"{duration.total_seconds() * 1000:g} ms"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
