from __future__ import annotations

from datetime import timedelta

import pytest

from domain.retry_rules import EXTERNAL_TASK
from workers.pod.retry_policy import RetryPolicy


def test_a_policy_counts_tries_and_doubles_its_waits() -> None:
    assert waits_of(RetryPolicy.parse("R4/PT10S")) == [10, 20, 40]


def waits_of(policy: RetryPolicy) -> list[float]:
    """Let a task fail until it has no tries left. Returns the seconds before each further try."""
    retries: int | None = None
    waits = []
    while (left := policy.left_after_failure(retries)) > 0:
        waits.append(policy.wait_before_next(left).total_seconds())
        retries = left
    return waits


@pytest.mark.parametrize(
    ("text", "wait"),
    [("R3/PT0.5S", timedelta(seconds=0.5)), ("R1/PT1H30M", timedelta(minutes=90)), (" R5/P1DT2S ", timedelta(days=1, seconds=2))],
)
def test_durations_are_iso_durations(text: str, wait: timedelta) -> None:
    assert RetryPolicy.parse(text).wait == wait


@pytest.mark.parametrize("text", ["", "R0/PT1S", "5/PT1S", "R5/10s", "R5/PT", "R5/P", "R5/P1DT", "PT5S"])
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="R5/PT10S"):
        RetryPolicy.parse(text)


def test_an_unreadable_or_missing_policy_is_replaced_by_the_default() -> None:
    assert RetryPolicy.of({"retryPolicy": "often"}) == RetryPolicy.of({})


def test_a_try_that_an_operator_adds_is_the_last() -> None:
    assert RetryPolicy.parse("R5/PT10S").left_after_failure(1) == 0


def test_no_wait_is_longer_than_an_hour() -> None:
    policy = RetryPolicy.parse("R999/PT1S")

    assert policy.wait_before_next(1) == EXTERNAL_TASK.longest_wait


def test_a_task_without_a_policy_is_tried_as_often_as_the_table_says() -> None:
    first = EXTERNAL_TASK.first_wait.total_seconds()

    assert waits_of(RetryPolicy.of({})) == [first * 2**number for number in range(EXTERNAL_TASK.attempts - 1)]
