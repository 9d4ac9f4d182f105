"""What the dispatcher delivers again, because the first reply was lost: it has one effect, also where the engine would take it twice."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine as Database

from domain import messages
from domain.messages import Message
from domain.store import unit_of_work
from domain.store.facts import WorkflowCommandKind
from tests.contract.test_models_of_orders import assessed
from tests.support.database import acting
from tests.support.engines import Doors
from tests.support.models import TENANT
from tests.support.waiting import eventually
from tests.support.walk import Walk
from tests.support.wanted import Wanted
from workers.deployment import DEPLOYMENT, model_files
from workers.dispatch import Dispatcher
from workers.runtime.deliveries import DELIVERIES
from workers.runtime.engine import Engine

pytestmark = pytest.mark.stack

ORDER, ASSESSMENT, ASSESS = "order-fulfillment", "cancellation-assessment", "assess-cancellation"
COLLECT, LIST = "order.collect-cancellation-facts", "order.list-cancellations"


@pytest.fixture
def engine(doors: Doors) -> Engine:
    """An engine with the models of this checkout."""
    engine = doors.direct()
    engine.deploy(TENANT, DEPLOYMENT, model_files())
    return engine


@pytest.fixture
def order(db: Database, engine: Engine, dispatcher: Dispatcher) -> Wanted:
    """An order whose process is started and registered."""
    order = Wanted.of(db, ORDER)
    dispatcher.run_once()
    assert order.correlation.status == "STARTED"
    return order


def tell(order: Wanted, dispatcher: Dispatcher, message: Message, **variables: Any) -> str | None:
    """Queue a message, and dispatch until it is settled. Returns its outcome."""
    with unit_of_work(order.database, order.cause) as uow:
        message.correlate(uow, order.business_key, **variables)

    def settled() -> bool:
        dispatcher.run_once()
        return bool(order.commands[-1].status != "PENDING")

    eventually(settled, f"{message.name} is settled")
    return str(order.commands[-1].outcome)


def with_a_lost_reply(db: Database, doors: Doors) -> Dispatcher:
    """A dispatcher that does not learn what becomes of the next message."""
    engine, proxy = doors.through_proxy()
    proxy.drop_response("/message")
    return Dispatcher(acting(db, "dispatch"), engine)


def waiting(engine: Engine, instance_id: str | None, topic: str) -> int:
    """The number of tasks that an instance has for a topic."""
    return len(engine.rows("/external-task", processInstanceId=instance_id, topicName=topic))


@pytest.mark.parametrize(
    ("message", "variable", "topic"),
    [
        (messages.ORDER_CANCELLATION_REQUESTED, "cancellation_id", COLLECT),
        (messages.ORDER_CANCELLATION_ACCEPTED, "accepted_cancellation_id", LIST),
    ],
    ids=["requested", "accepted"],
)
def test_a_message_about_a_cancellation_whose_reply_is_lost_is_delivered_and_has_one_effect(  # noqa: PLR0917 - fixtures
    db: Database, doors: Doors, engine: Engine, order: Wanted, message: Message, variable: str, topic: str
) -> None:
    """Kills: sending it again. A second assessment begins, or nobody waits for the second one and a case follows after an hour."""
    outcome = tell(order, with_a_lost_reply(db, doors), message, **{variable: uuid4()})

    assert (outcome, order.commands[-1].attempts) == ("DELIVERED", 2)
    assert waiting(engine, order.correlation.process_instance_id, topic) == 1


def test_the_next_request_to_cancel_an_order_is_assessed_as_well(engine: Engine, order: Wanted, dispatcher: Dispatcher) -> None:
    for _ in range(2):
        tell(order, dispatcher, messages.ORDER_CANCELLATION_REQUESTED, cancellation_id=uuid4())

    assert waiting(engine, order.correlation.process_instance_id, COLLECT) == 2


def test_what_a_replaced_instance_was_told_is_told_to_the_registered_one_too(
    engine: Engine, order: Wanted, dispatcher: Dispatcher
) -> None:
    """Kills: asking every instance with the business key. A restarted order would never learn of its cancellation."""
    cancellation_id = uuid4()
    told_before = {"cancellationId": str(cancellation_id), "startToken": str(uuid4())}
    engine.start_process(TENANT, ORDER, order.business_key, told_before)

    tell(order, dispatcher, messages.ORDER_CANCELLATION_REQUESTED, cancellation_id=cancellation_id)

    assert waiting(engine, order.correlation.process_instance_id, COLLECT) == 1


@pytest.fixture
def asked_twice(engine: Engine) -> Walk:
    """A cancellation about which two processes ask a person."""
    key = f"cancellation:{uuid4()}"
    for _ in range(2):
        walk = Walk(engine=engine, business_key=key, instance_id=engine.start_process(TENANT, ASSESSMENT, key, {}))
        walk.work("cancellation.prepare-form", **assessed())
    walk.people(2)
    return walk


def deliver(walk: Walk, kind: WorkflowCommandKind, **variables: Any) -> bool:
    command: Any = type("Command", (), {"name": ASSESS, "business_key": walk.business_key, "variables": variables})
    return DELIVERIES[kind](walk.engine, command)


def test_a_decision_ends_every_task_that_asks_for_it(asked_twice: Walk) -> None:
    assert deliver(asked_twice, WorkflowCommandKind.COMPLETE_TASK, cancellationDecision="DECLINE", assessmentReason="late")

    assert asked_twice.engine.user_tasks(asked_twice.business_key) == []


def test_whoever_has_a_task_gets_every_task_about_the_same(asked_twice: Walk) -> None:
    assert deliver(asked_twice, WorkflowCommandKind.ASSIGN_TASK, assignee="felix")

    assert [task.assignee for task in asked_twice.engine.user_tasks(asked_twice.business_key)] == ["felix", "felix"]
