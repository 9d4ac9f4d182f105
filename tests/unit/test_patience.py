"""How long reconciliation waits before it asks again."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from reconciliation.patience import Patience


def test_patience_doubles_and_is_forgotten_with_its_step() -> None:
    seconds = 0.0
    patience, step_id = Patience(timedelta(seconds=1), timedelta(seconds=4), clock=lambda: seconds), uuid4()

    pauses = []
    for _ in range(4):
        patience.wait(step_id)
        start = seconds
        while not patience.is_over(step_id):
            seconds += 0.5
        pauses.append(seconds - start)
    patience.wait(step_id)
    patience.forget_all_but(set())

    assert pauses == [1, 2, 4, 4]
    assert patience.is_over(step_id)
