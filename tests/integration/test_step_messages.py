"""The process of a step reads the step before it goes on. A change that it has read needs no message; a later change keeps its message.

A message that nobody waits for would be tried for a minute, and each try asks the engine.
"""

from __future__ import annotations

import pytest
from sqlalchemy import select

from domain.delivery.steps import StepEvent, business_key
from domain.messages import FULFILLMENT_STEP_READY, PROVIDER_CALLBACK_RECEIVED, Message
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from tests.support.database import acting, in_order
from tests.support.fulfilment import Fulfilment
from tests.support.handled import handler_of, task_of
from tests.support.held import CHECK, RESERVE
from tests.support.offers import Offers
from tests.support.statements import before_statement

COMMAND = table_of(WorkflowCommand)
PROVISION = "PROVISION_SERVICE"  # it waits for the two others
STATEMENTS = range(1, 6)  # the handler reads the step with the third; the change is made before, between and after
PENDING, READ = ("PENDING", None), ("EXPIRED", "READ")


def told(work: Fulfilment, step: str, message: Message) -> list[tuple[str, str | None]]:
    """What has become of the messages to the process of a step, oldest first."""
    key = business_key(work.offers.tenant_id, work.step(step).id)
    query = in_order(select(*COMMAND.c), COMMAND).filter_by(business_key=key, name=message.name)
    with work.offers.engine.connect() as connection:
        return [(row.status, row.outcome) for row in connection.execute(query)]


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order whose first steps are completed, so that the process of the next one is told that it is ready."""
    work = Fulfilment.running(offers)
    work.complete(RESERVE, CHECK)
    return work


def test_a_step_that_has_read_that_it_is_ready_needs_no_message(work: Fulfilment) -> None:
    assert told(work, PROVISION, FULFILLMENT_STEP_READY) == [PENDING]

    read = handler_of(work).check_readiness(*task_of(work, PROVISION))

    assert read == {"readiness": "READY"}
    assert told(work, PROVISION, FULFILLMENT_STEP_READY) == [READ]


def test_a_step_that_is_executed_needs_no_message_that_it_is_ready(work: Fulfilment) -> None:
    work.start(PROVISION)
    work.say(PROVISION, StepEvent.ACKNOWLEDGE)

    handler_of(work).execute(*task_of(work, PROVISION))

    assert told(work, PROVISION, FULFILLMENT_STEP_READY) == [READ]


def test_an_outcome_that_the_process_has_read_needs_no_message(work: Fulfilment) -> None:
    work.complete(PROVISION)
    assert told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED) == [PENDING]

    read = handler_of(work).check_outcome(*task_of(work, PROVISION))

    assert (read["stepOutcome"], told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED)) == ("COMPLETED", [READ])


def test_an_outcome_after_the_process_has_read_the_step_keeps_its_message(work: Fulfilment) -> None:
    work.start(PROVISION)
    handler_of(work).check_outcome(*task_of(work, PROVISION))

    work.say(PROVISION, StepEvent.COMPLETE)

    assert told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED) == [PENDING]


def test_reading_one_step_leaves_the_messages_of_another(work: Fulfilment) -> None:
    work.complete(PROVISION)

    handler_of(work).check_outcome(*task_of(work, RESERVE))

    assert told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED) == [PENDING]


def test_the_process_that_cancels_a_step_leaves_the_message_to_the_one_that_waits(work: Fulfilment) -> None:
    """Both have the same business key."""
    work.complete(PROVISION)

    handler_of(work).cancel(*task_of(work, PROVISION))

    assert told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED) == [PENDING]


@pytest.mark.parametrize("number", STATEMENTS)
def test_an_outcome_while_the_step_is_being_read_is_read_or_keeps_its_message(work: Fulfilment, number: int) -> None:
    """Fails if the step is read before its messages expire."""
    work.start(PROVISION)

    with before_statement(number, acting(work.offers.engine, "tasks"), lambda: work.say(PROVISION, StepEvent.COMPLETE)):
        read = handler_of(work).check_outcome(*task_of(work, PROVISION))

    assert read["stepOutcome"] == "COMPLETED" or told(work, PROVISION, PROVIDER_CALLBACK_RECEIVED) == [PENDING]
