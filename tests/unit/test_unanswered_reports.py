"""A report that alone gets no usable reply ends as an incident; an outage of the engine is waited out."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import Any
from unittest.mock import create_autospec

import pytest

from domain.retry_rules import REPORT_SILENCE, REPORT_UNANSWERED
from tests.support.answering import Reply
from tests.support.reporting import DONE, PAGE, Door, reported
from tests.unit.test_outcomes import fetched
from workers.pod.contract import Topic
from workers.pod.lease import Lease
from workers.pod.outcomes import Completed, Failed, Outcome, Raised
from workers.pod.report import Reporter, Settled
from workers.runtime.engine import Engine, EngineOutcomeUnknownError, EngineUnavailableError

POISON = "<script>"
COMPLETED = Completed(variables={"comment": {"type": "String", "value": POISON}})
RAISED = Raised(code="ORDER_INVALID", message=POISON, variables={})
FAILED = Failed(message=POISON, details="", retries=2, retry_after=timedelta(seconds=10))
POSTPONED = Failed(message=POISON, details="", retries=3, retry_after=timedelta(seconds=7), postponed=True)
INCIDENT = Failed(message=POISON, details="", retries=0, retry_after=timedelta())
DAY = timedelta(days=1)
MANY = 1100  # tries, after which a wait that doubles is no number of a computer


def suspicious_gateway(_: str, body: dict[str, Any]) -> Reply:
    return PAGE if POISON in str(body) else DONE


@pytest.mark.parametrize("outcome", [COMPLETED, RAISED, FAILED, POSTPONED, INCIDENT])
@pytest.mark.parametrize("lock", [DAY, timedelta(seconds=1)], ids=["kept", "expiring"])
def test_a_result_without_a_usable_reply_becomes_an_incident(outcome: Outcome, lock: timedelta) -> None:
    """Kills: a text of a customer that a gateway refuses, and that keeps a place of the pod for ever."""
    settled, instead = reported(Door(suspicious_gateway), outcome, lock)

    assert settled is Settled.INCIDENT
    assert isinstance(instead, Failed)
    assert "but for 10 min its report got no reply of the engine, only this" in instead.message
    assert "not JSON (status 502)" in instead.message


def test_a_task_that_is_found_gone_at_the_end_of_the_time_is_settled() -> None:
    door = Door(lambda *_: PAGE)
    door.task = Reply(status=404, body=b'{"type": "RestException", "message": "gone", "code": null}')

    settled, _ = reported(door, COMPLETED)

    assert settled is Settled.COMPLETED


def test_an_incident_that_gets_no_reply_either_lets_the_task_go_after_a_few_tries() -> None:
    door = Door(lambda *_: PAGE)

    settled, _ = reported(door, COMPLETED)

    assert settled is Settled.UNREPORTED
    assert door.reports["failure"] == REPORT_SILENCE.attempts


@pytest.mark.parametrize("outage", [EngineUnavailableError("refused"), EngineOutcomeUnknownError("a page", 502)])
def test_an_outage_of_the_engine_is_waited_out_while_the_lock_lasts(outage: Exception) -> None:
    seconds = count()
    back_at = 3 * REPORT_UNANSWERED.time.total_seconds()
    engine = create_autospec(Engine, instance=True)

    def answer(*_: Any) -> None:
        if next(seconds) < back_at:
            raise outage

    engine.complete.side_effect = engine.external_task.side_effect = answer

    assert settled_by(engine, seconds) is Settled.COMPLETED


def test_the_waits_of_a_report_are_bounded_however_often_it_is_sent() -> None:
    engine = create_autospec(Engine, instance=True)
    engine.complete.side_effect = [*[EngineUnavailableError("refused")] * MANY, None]
    waits: list[float] = []

    settled = settled_by(engine, count(step=0), waits)

    assert settled is Settled.COMPLETED
    assert (len(waits), max(waits) <= REPORT_UNANSWERED.longest_wait.total_seconds()) == (MANY, True)


def settled_by(engine: Engine, seconds: count[int], waits: list[float] | None = None) -> Settled:
    """Report a result to this engine, in which each look at the clock takes the next of these seconds."""
    topic = Topic(name="order.decompose", handler=lambda _: {})
    lease = Lease(fetched(), topic, DAY, requested_at=0, clock=lambda: next(seconds))
    noted = waits if waits is not None else []
    settled, _ = Reporter(engine, clock=lambda: next(seconds), pause=noted.append).report(lease, Completed(variables={}))
    return settled
