"""A step that a person has just released: its process, which comes late to open the case, does not hold it again."""

from __future__ import annotations

import pytest

from domain.delivery import holding
from domain.delivery.resolving import Resolution
from domain.delivery.steps import FailureClass, StepEvent
from domain.workflows.keys import Kind, key_of, parse
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.held import RESERVE
from tests.support.offers import ANNA
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.tasks.fallout import Fallout

RULE = {"falloutQueue": "falloutL1", "falloutSeverity": "MEDIUM", "falloutSla": "PT24H"}


@pytest.fixture
def released(held: Fulfilment) -> Fulfilment:
    """The order after a person has sent its held step to RETRY."""
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.RETRY)
    return held


def test_a_process_that_comes_late_to_open_the_case_does_not_hold_the_step_again(released: Fulfilment) -> None:
    key = key_of(Kind.STEP, released.offers.tenant_id, released.step(RESERVE).id)
    instance_id = released.offers.process_of(key)
    task = Task(
        id="task-1",
        topic="fallout.open-case",
        worker_id="worker-1",
        tenant_id=str(released.offers.tenant_id),
        process_instance_id=instance_id,
        business_key=key,
        activity_id="open-case",
        execution_id="execution-1",
        properties=RULE,
    )

    told = Fallout(acting(released.offers.engine, "tasks"), KnownEngine().door).open_case(task, parse(key))

    assert told == {"caseId": "", "stepOutcome": "RETRYABLE", "failureClass": "RELEASED", "attemptNo": 1, "providerName": "sandbox"}
    assert released.step(RESERVE).status == "RETRYABLE"
    assert [case.status for case in released.cases()] == ["RESOLVED"]


def test_a_released_step_that_fails_again_is_held(released: Fulfilment) -> None:
    released.start(RESERVE)
    released.say(RESERVE, StepEvent.FAIL_WITHOUT_EFFECT, failure_class=FailureClass.UNAVAILABLE)

    with released.offers.uow() as uow:
        held = holding.hold(uow, released.step(RESERVE).id, "ATTEMPTS_EXHAUSTED")

    assert held.status == "HELD"
