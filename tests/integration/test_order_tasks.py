"""The topics of orders, as the processes that use them call them."""

from __future__ import annotations

from datetime import timedelta

from domain.delivery import compensating
from domain.delivery.resolving import Resolution
from domain.workflows import instances
from domain.workflows.keys import BusinessKey, Kind, key_of
from tests.support.database import acting
from tests.support.external_tasks import task_of
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK, RESERVE
from tests.support.offers import ANNA, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.tasks.contracts import topics_of
from workers.tasks.fulfillment import Fulfillment
from workers.tasks.orders import Orders
from workers.tasks.subjects import Subjects


def test_the_process_that_undoes_a_late_effect_evaluates_the_order_of_its_step(offers: Offers) -> None:
    """Kills: a topic that acts for orders alone, so that every such process ends in an incident."""
    work = Fulfilment.running(offers)
    work.complete(RESERVE)
    with offers.uow() as uow:
        undo = compensating.undo_late(uow, work.step(RESERVE))
        assert undo is not None
        key = key_of(Kind.UNDO_STEP, offers.tenant_id, undo.id)
        instances.record_root(uow, "instance-1", key)
    database, engine = acting(offers.engine, "tasks"), KnownEngine().door
    task = Task(
        id="external-task-1",
        topic="order.evaluate",
        worker_id="worker-1",
        tenant_id=str(offers.tenant_id),
        process_instance_id="instance-1",
        business_key=key,
        activity_id="evaluate-order",
        execution_id="execution-1",
    )

    handle = topics_of([Orders(database, engine)], Subjects(database, engine))[task.topic].handler

    assert handle(task) == {"orderOutcome": "IN_PROGRESS", "compensations": []}


def test_a_step_that_had_failed_before_its_worker_died_has_its_order_evaluated(held: Fulfilment) -> None:
    """Kills: a repeat that finds the step final and ends there, although nobody has evaluated the order."""
    held.complete(CHECK)
    held.claim(ANNA)
    held.resolve_only(ANNA, Resolution.FAIL_STEP)
    key = BusinessKey(Kind.STEP, held.offers.tenant_id, (held.step(RESERVE).id,))
    task = task_of(key, "fulfillment.fail-step")
    workers = Fulfillment(acting(held.offers.engine, "tasks"), KnownEngine().door, {}, timedelta(minutes=1))

    assert workers.fail(task, key)["stepOutcome"] == "FAILED"

    assert held.status == "PARTIALLY_FULFILLED"
