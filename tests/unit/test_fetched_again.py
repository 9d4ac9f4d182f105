"""A task that a pod fetches again while it reports the end of that task is not run a second time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.support.fetched_again import TOPIC, FetchedAgain, worked
from workers.pod.contract import GiveUp, Task
from workers.runtime.variables import Variable


@pytest.mark.parametrize("report", ["complete", "failure"])
def test_a_task_that_its_report_ends_is_not_run_again(report: str) -> None:
    """Kills: running a task twice when its lock expires just before the report and a poll fetches it again."""
    engine = FetchedAgain()
    runs: list[str] = []

    def handler(task: Task) -> Mapping[str, Variable]:
        runs.append(task.topic)
        if report == "failure":
            raise GiveUp("a person must act")
        return {}

    worked(engine, handler, until=lambda: engine.calls)

    assert (runs, engine.calls) == ([TOPIC], [report])
