"""The report of a task's outcome is sent so often as the table of retries says, and then given up."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.retry_rules import REPORT_FAULT, REPORT_RACE, REPORT_SILENCE, RetryRule
from tests.support.answering import Reply
from tests.support.reporting import DONE, PAGE, Door, refusing, reported
from workers.pod.outcomes import Completed, Failed, Outcome, Raised
from workers.pod.report import Settled

REFUSALS = pytest.mark.parametrize(
    ("refusal", "rule"),
    [(refusing(500, code=1), REPORT_RACE), (refusing(500), REPORT_FAULT), (refusing(403), REPORT_FAULT)],
    ids=["race", "fault", "right"],
)
COMPLETED = Completed(variables={})
RAISED = Raised(code="ORDER_INVALID", message="no lines", variables={})
INCIDENT = Failed(message="a person must act", details="", retries=0, retry_after=timedelta())
FAILED = Failed(message="a bug", details="", retries=2, retry_after=timedelta(seconds=10))
POSTPONED = Failed(message="too early", details="", retries=3, retry_after=timedelta(seconds=7), postponed=True)


@REFUSALS
def test_a_report_is_sent_so_often_and_then_given_up(refusal: Reply, rule: RetryRule) -> None:
    door = Door(lambda *_: refusal)

    settled, _ = reported(door, COMPLETED)

    assert (settled, door.reports) == (Settled.UNREPORTED, {"complete": rule.attempts, "failure": rule.attempts})


@REFUSALS
def test_a_task_whose_result_is_refused_fails_with_the_text_of_the_engine(refusal: Reply, rule: RetryRule) -> None:
    door = Door(lambda what, _: refusal if what == "complete" else DONE)

    settled, outcome = reported(door, COMPLETED)

    assert (settled, door.reports) == (Settled.FAILED, {"complete": rule.attempts, "failure": 1})
    assert isinstance(outcome, Failed)
    assert "the work is done, but the engine refuses the report: the engine answered" in outcome.message
    assert "ProcessEngineException: no" in outcome.message


@pytest.mark.parametrize(
    ("outcome", "settled", "left", "wait", "what"),
    [
        (COMPLETED, Settled.FAILED, 2, 10, "the work is done"),
        (RAISED, Settled.FAILED, 2, 10, "the work ended in BPMN error 'ORDER_INVALID'"),
        (FAILED, Settled.FAILED, 2, 10, "the task failed"),
        (INCIDENT, Settled.INCIDENT, 0, 0, "the task failed for good"),
        (POSTPONED, Settled.POSTPONED, 3, 7, "the task came too early"),
    ],
    ids=["completed", "raised", "failed", "incident", "postponed"],
)
def test_a_refused_report_leaves_the_kind_of_its_outcome(
    outcome: Outcome, settled: Settled, left: int, wait: int, what: str
) -> None:
    answers = iter([refusing(400)])
    door = Door(lambda *_: next(answers, DONE))

    ended, instead = reported(door, outcome)

    assert isinstance(instead, Failed)
    assert (ended, instead.retries, instead.retry_after) == (settled, left, timedelta(seconds=wait))
    assert f"order.decompose: {what}, but the engine refuses the report: " in instead.message


def test_a_report_without_a_reply_is_sent_so_often_after_its_lock_has_expired() -> None:
    door = Door(lambda *_: PAGE)
    door.lock = door.task = PAGE

    settled, _ = reported(door, COMPLETED, timedelta(seconds=5))

    assert settled is Settled.UNREPORTED
    assert 0 < door.reports["complete"] <= REPORT_SILENCE.attempts
