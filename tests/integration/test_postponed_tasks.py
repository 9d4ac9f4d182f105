"""A task that comes too early is postponed for a bounded time, and then left to a person, who may let it run again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

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
STEP = "RESERVE_INVENTORY"
ELSEWHERE = RetryLater.by(STEP_ELSEWHERE, "worker w-2 is carrying it out")


class Early:
    """A handler for which every task comes too early."""

    def __init__(self, later: RetryLater) -> None:
        self.later = later

    @topic("test.early", Kind.ORDER, Kind.STEP)
    def run(self, _: Task, __: BusinessKey) -> Mapping[str, Variable]:
        raise self.later


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def run(work: Fulfilment, later: RetryLater) -> None:
    """Run a task of the order's process."""
    run_for(work, BusinessKey(Kind.ORDER, work.offers.tenant_id, (work.order_id,)), later)


def run_for_step(work: Fulfilment, later: RetryLater) -> None:
    """Run a task of the process of a step."""
    run_for(work, BusinessKey(Kind.STEP, work.offers.tenant_id, (work.step(STEP).id,)), later)


def run_for(work: Fulfilment, key: BusinessKey, later: RetryLater) -> None:
    task = Task(
        id="task",
        topic="test.early",
        worker_id="w",
        tenant_id=str(work.offers.tenant_id),
        process_instance_id=f"instance of {work.order_id}",
        business_key=str(key),
        activity_id="early",
        execution_id="e",
    )
    database = acting(work.offers.engine, "tasks")
    subjects = Subjects(database, Engine("http://127.0.0.1:9/engine-rest", "user", "password"))
    with unit_of_work(database, cause_of(task, key)) as uow:
        instances.record_root(uow, task.process_instance_id, str(key))
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


def unchanged_for(work: Fulfilment, time: timedelta) -> None:
    """Let the order and its steps have changed so long ago."""
    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE sales_order SET updated_at = clock_timestamp() - :time"), {"time": time})
        connection.execute(
            text("UPDATE fulfillment_step SET updated_at = clock_timestamp() - :time, ready_at = ready_at - :time"), {"time": time}
        )


def test_a_task_is_postponed_while_its_time_lasts(work: Fulfilment) -> None:
    unchanged_for(work, STEP_ELSEWHERE.time - A_LITTLE)

    with pytest.raises(RetryLater):
        run(work, ELSEWHERE)


def test_a_task_that_is_postponed_for_too_long_is_left_to_a_person(work: Fulfilment) -> None:
    unchanged_for(work, STEP_ELSEWHERE.time + A_LITTLE)

    with pytest.raises(GiveUp, match=r"worker w-2 is carrying it out, and nothing has changed since .*: resolve its fallout case"):
        run(work, ELSEWHERE)


def test_a_task_waits_longer_for_a_person_than_for_a_worker(work: Fulfilment) -> None:
    later = RetryLater.by(ORDER_NOT_RUNNING, "the order is CANCEL_REQUESTED")
    unchanged_for(work, STEP_ELSEWHERE.time * 2)
    with pytest.raises(RetryLater):
        run(work, later)

    unchanged_for(work, ORDER_NOT_RUNNING.time + A_LITTLE)
    with pytest.raises(GiveUp):
        run(work, later)


def test_the_time_begins_when_another_worker_starts_the_step(work: Fulfilment) -> None:
    """Kills: an earlier wait for a person, or an outage, that counts as a wait for a worker."""
    unchanged_for(work, STEP_ELSEWHERE.time * 2)
    work.start(STEP)

    with pytest.raises(RetryLater):
        run_for_step(work, ELSEWHERE)

    unchanged_for(work, STEP_ELSEWHERE.time + A_LITTLE)
    with pytest.raises(GiveUp):
        run_for_step(work, ELSEWHERE)


def test_the_time_begins_when_the_order_is_asked_to_be_cancelled(work: Fulfilment) -> None:
    unchanged_for(work, ORDER_NOT_RUNNING.time * 2)
    work.ask_to_cancel()

    with pytest.raises(RetryLater):
        run_for_step(work, RetryLater.by(ORDER_NOT_RUNNING, "the order is CANCEL_REQUESTED"))


def test_the_time_begins_when_the_step_becomes_ready(work: Fulfilment) -> None:
    unchanged_for(work, ORDER_NOT_RUNNING.time * 2)
    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET ready_at = clock_timestamp()"))

    with pytest.raises(RetryLater):
        run_for_step(work, RetryLater.by(ORDER_NOT_RUNNING, "the order is HELD"))


def test_a_wait_that_nobody_bounds_has_no_end(work: Fulfilment) -> None:
    unchanged_for(work, timedelta(days=1000))

    with pytest.raises(RetryLater):
        run(work, RetryLater(A_LITTLE, "too early"))


def test_a_task_has_its_whole_time_again_after_a_persons_decision(work: Fulfilment) -> None:
    unchanged_for(work, STEP_ELSEWHERE.time * 2)
    with pytest.raises(GiveUp):
        run(work, ELSEWHERE)
    open_case(work)
    work.claim(BERT)
    work.resolve(BERT, Resolution.RETRY)
    unchanged_for(work, STEP_ELSEWHERE.time * 2)

    with pytest.raises(RetryLater):
        run(work, ELSEWHERE)

    with work.offers.engine.begin() as connection:
        connection.execute(text("UPDATE fallout_case SET updated_at = updated_at - interval '2 hours'"))
    with pytest.raises(GiveUp):
        run(work, ELSEWHERE)
