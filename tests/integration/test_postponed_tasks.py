"""A task that comes too early is postponed for a bounded time, and then left to a person, who may let it run again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from domain.delivery import incidents
from domain.delivery.incidents import FailedTask
from domain.delivery.resolving import Resolution
from domain.retry_rules import ORDER_NOT_RUNNING, STEP_ELSEWHERE
from domain.store import unit_of_work
from domain.workflows import instances
from domain.workflows.keys import BusinessKey, Kind, key_of
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, Offers
from workers.pod.contract import GiveUp, RetryLater, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.contracts import topic, topics_of
from workers.tasks.subjects import Subjects, cause_of

A_LITTLE = timedelta(minutes=5)


class Early:
    """A handler for which every task comes too early."""

    def __init__(self, later: RetryLater) -> None:
        self.later = later

    @topic("test.early", Kind.ORDER)
    def run(self, _: Task, __: BusinessKey) -> Mapping[str, Variable]:
        raise self.later


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def run(work: Fulfilment, later: RetryLater, age: timedelta) -> None:
    """Run a task of the order's process that the engine made so long ago."""
    key = key_of(Kind.ORDER, work.offers.tenant_id, work.order_id)
    task = Task(
        id="task",
        topic="test.early",
        worker_id="w",
        tenant_id=str(work.offers.tenant_id),
        process_instance_id=f"instance of {work.order_id}",
        business_key=key,
        activity_id="early",
        execution_id="e",
        created_at=datetime.now(UTC) - age,
    )
    database = acting(work.offers.engine, "tasks")
    subjects = Subjects(database, Engine("http://127.0.0.1:9/engine-rest", "user", "password"))
    with unit_of_work(database, cause_of(task, BusinessKey(Kind.ORDER, work.offers.tenant_id, (work.order_id,)))) as uow:
        instances.record_root(uow, task.process_instance_id, key)
    topics_of([Early(later)], subjects)["test.early"].handler(task)


def open_case(work: Fulfilment) -> None:
    """Open the case of the failed task, as the sweep of incidents does."""
    key = key_of(Kind.ORDER, work.offers.tenant_id, work.order_id)
    failed = FailedTask(
        business_key=key,
        process_instance_id=f"instance of {work.order_id}",
        activity_id="early",
        incident_id="incident",
        incident_type="failedExternalTask",
        message="too early",
    )
    with work.offers.uow("reconciliation") as uow:
        incidents.open_case_of(uow, failed)


def test_a_task_is_postponed_while_its_time_lasts(work: Fulfilment) -> None:
    with pytest.raises(RetryLater):
        run(work, RetryLater.by(STEP_ELSEWHERE, "worker w-2 is carrying it out"), STEP_ELSEWHERE.time - A_LITTLE)


def test_a_task_that_is_postponed_for_too_long_is_left_to_a_person(work: Fulfilment) -> None:
    with pytest.raises(GiveUp, match=r"worker w-2 is carrying it out, every 2 s since .*: resolve its fallout case"):
        run(work, RetryLater.by(STEP_ELSEWHERE, "worker w-2 is carrying it out"), STEP_ELSEWHERE.time + A_LITTLE)


def test_a_task_waits_longer_for_a_person_than_for_a_worker(work: Fulfilment) -> None:
    later = RetryLater.by(ORDER_NOT_RUNNING, "the order is CANCEL_REQUESTED")
    with pytest.raises(RetryLater):
        run(work, later, STEP_ELSEWHERE.time * 2)

    with pytest.raises(GiveUp):
        run(work, later, ORDER_NOT_RUNNING.time + A_LITTLE)


def test_a_task_has_its_whole_time_again_after_a_persons_decision(work: Fulfilment) -> None:
    later = RetryLater.by(STEP_ELSEWHERE, "too early")
    with pytest.raises(GiveUp):
        run(work, later, STEP_ELSEWHERE.time * 2)
    open_case(work)
    work.claim(BERT)
    work.resolve(BERT, Resolution.RETRY)

    with pytest.raises(RetryLater):
        run(work, later, STEP_ELSEWHERE.time * 2)

    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET updated_at = updated_at - interval '2 hours'"))
    with pytest.raises(GiveUp):
        run(work, later, STEP_ELSEWHERE.time * 4)
