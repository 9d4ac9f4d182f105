"""How long reconciliation waits before it asks again."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from reconciliation.backoff import Backoff


def test_each_wait_is_twice_the_one_before_and_ends_with_its_question() -> None:
    seconds = 0.0
    backoff, question_id = Backoff(timedelta(seconds=1), timedelta(seconds=4), clock=lambda: seconds), uuid4()

    pauses = []
    for _ in range(4):
        backoff.wait(question_id)
        start = seconds
        while not backoff.may_ask(question_id):
            seconds += 0.5
        pauses.append(seconds - start)
    backoff.wait(question_id)
    backoff.keep_only(set())

    assert pauses == [1, 2, 4, 4]
    assert backoff.may_ask(question_id)
