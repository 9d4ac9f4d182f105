"""What `q2o restart-instances` says, and whether it calls itself complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from workers.restarts import Outcome, Restarts, Result, report
from workers.runtime.engine_history import EngineInstance


class Known(Restarts):
    """A run whose results are known."""

    def __init__(self, results: Sequence[Result]) -> None:
        unused: Any = None
        super().__init__(unused, unused, (), dry_run=True)
        self._results = results

    def run(self) -> Iterator[Result]:
        return iter(self._results)


def result(outcome: Outcome, remedy: str = "") -> Result:
    one = EngineInstance(id="i", business_key="order:t:o", definition_key="order-fulfillment", state="ACTIVE")
    return Result(instance=one, outcome=outcome, remedy=remedy)


def test_it_says_a_line_about_each_instance_and_one_about_all() -> None:
    said: list[str] = []

    report(Known([result(Outcome.RESTARTED), result(Outcome.LEFT, "end it in Cockpit")]), said.append)

    assert said == [
        "order-fulfillment i (order:t:o): restarted",
        "order-fulfillment i (order:t:o): left; end it in Cockpit",
        "1 restarted, 0 ended, 1 left, 0 unknown (dry run)",
    ]


@pytest.mark.parametrize(
    ("outcome", "is_complete"),
    [(Outcome.RESTARTED, True), (Outcome.ENDED, True), (Outcome.LEFT, False), (Outcome.UNKNOWN, False)],
)
def test_it_is_complete_when_no_instance_is_left_to_a_person_or_to_a_repeat(*, outcome: Outcome, is_complete: bool) -> None:
    assert report(Known([result(outcome)]), lambda _: None) is is_complete
