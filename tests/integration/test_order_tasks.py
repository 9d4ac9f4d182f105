"""The topics of orders, as the processes that use them call them."""

from __future__ import annotations

from domain.delivery import compensating
from domain.workflows import instances
from domain.workflows.keys import Kind, key_of
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.tasks.contracts import topics_of
from workers.tasks.orders import Orders
from workers.tasks.subjects import Subjects

RESERVE = "RESERVE_INVENTORY"


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
