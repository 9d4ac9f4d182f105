"""Restarting a process: the domain gives the place of the registered instance away, and says once more what only a message tells."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import Row, select

from domain import messages
from domain.auditing import inspect
from domain.delivery import cancelling, decomposing, restarting
from domain.delivery.cancelling import RequestCancellation
from domain.delivery.steps import StepKind
from domain.errors import Conflict
from domain.store import table_of, unit_of_work
from domain.store.facts import WorkflowCommand, WorkflowCommandKind
from domain.workflows import requests, restarts, starts
from domain.workflows.restarts import Standing
from domain.workflows.starts import CorrelationMovedOn, DuplicateWorkflow, RegisterWorkflow, WorkflowCorrelation
from tests.support.fulfilment import Fulfilment
from tests.support.offers import CUSTOMER, Offers
from tests.support.races import race_for_row, refusals, started
from tests.support.wanted import Wanted, claimed_by_a_dead_dispatcher

OLD = "old instance"
RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def wanted(db: Database) -> Wanted:
    """A process whose first instance has passed the gate."""
    wanted = Wanted.of(db, "late-compensation")
    wanted.pass_gate(OLD)
    return wanted


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order whose process has passed the gate."""
    work = Fulfilment.running(offers)
    register(work)
    return work


def key_of(work: Fulfilment) -> str:
    return f"order:{work.offers.tenant_id}:{work.order_id}"


def register(work: Fulfilment) -> None:
    with work.offers.uow() as uow:
        token = starts.find(uow, key_of(work)).start_token
        starts.register(uow, RegisterWorkflow(business_key=key_of(work), start_token=token, process_instance_id=OLD))


def restart(wanted: Wanted, instance_id: str = OLD) -> None:
    with unit_of_work(wanted.database, wanted.cause) as uow:
        restarts.restart(uow, wanted.business_key, instance_id)


def restart_order(work: Fulfilment) -> None:
    with work.offers.uow() as uow:
        restarting.restart(uow, key_of(work), OLD)


def standing(wanted: Wanted, instance_id: str = OLD) -> Standing:
    with unit_of_work(wanted.database, wanted.cause) as uow:
        return restarts.standing(uow, wanted.business_key, instance_id)


def queued(work: Fulfilment) -> list[Row[Any]]:
    """What the dispatcher would send to the order's process, in this order."""
    command = table_of(WorkflowCommand).c
    query = select(command.kind, command.name, command.variables).where(
        command.business_key == key_of(work), command.status == "PENDING"
    )
    with work.offers.uow() as uow:
        return list(uow.connection.execute(query.order_by(command.position)))


def told(work: Fulfilment) -> list[str]:
    return [row.name for row in queued(work) if row.kind == WorkflowCommandKind.CORRELATE]


def test_a_restart_asks_for_an_instance_with_a_token_of_its_own(wanted: Wanted) -> None:
    before = wanted.correlation

    restart(wanted)

    after = wanted.correlation
    assert (after.status, after.process_instance_id) == ("REQUESTED", None)
    assert after.start_token != before.start_token
    assert after.variables == {**before.variables, "start_token": str(after.start_token)}
    assert wanted.history == ["REQUESTED", "STARTED", "REQUESTED"]
    assert wanted.commands[-1].kind == WorkflowCommandKind.START
    assert wanted.commands[-1].variables["startToken"] == str(after.start_token)


def test_what_is_queued_for_the_old_instance_expires(wanted: Wanted) -> None:
    wanted.ask(WorkflowCommandKind.CORRELATE, "OrderResumed")
    wanted.ask(WorkflowCommandKind.COMPLETE_TASK, "approve-quote")

    restart(wanted)

    # The first is the start of the old instance, which its dispatcher has not settled yet.
    assert [(command.status, command.outcome) for command in wanted.commands] == [("EXPIRED", "RESTARTED")] * 3 + [
        ("PENDING", None)
    ]


def test_an_instance_whose_place_was_given_away_does_not_pass_the_gate_again(wanted: Wanted) -> None:
    token = wanted.correlation.start_token
    restart(wanted)

    with pytest.raises(DuplicateWorkflow), unit_of_work(wanted.database, wanted.cause) as uow:
        starts.register(uow, RegisterWorkflow(business_key=wanted.business_key, start_token=token, process_instance_id=OLD))


def test_an_instance_is_replaced_once(wanted: Wanted) -> None:
    restart(wanted)

    with pytest.raises(CorrelationMovedOn):
        restart(wanted)


def test_the_new_instance_can_be_restarted_too(wanted: Wanted) -> None:
    restart(wanted)
    wanted.pass_gate("new instance")

    restart(wanted, "new instance")

    assert wanted.correlation.status == "REQUESTED"


def test_the_audit_knows_which_instance_was_replaced(wanted: Wanted) -> None:
    restart(wanted)

    with wanted.database.connect() as connection:
        assert OLD in inspect(connection, wanted.tenant_id).replaced_instances


def test_of_two_restarts_at_once_one_gives_the_place_away(wanted: Wanted) -> None:
    rivals = race_for_row(
        wanted.database, table_of(WorkflowCorrelation), wanted.correlation.id, lambda: restart(wanted), lambda: restart(wanted)
    )

    assert refusals(rivals) == [None, CorrelationMovedOn]
    assert [command.kind for command in wanted.commands] == [WorkflowCommandKind.START] * 2


def test_a_dispatcher_that_settles_the_old_start_after_a_restart_changes_nothing(wanted: Wanted) -> None:
    [old] = claimed_by_a_dead_dispatcher(wanted.database)
    restart(wanted)

    with pytest.raises(Conflict), unit_of_work(wanted.database, wanted.cause) as uow:
        starts.start_timed_out(uow, wanted.business_key)
        requests.finish(uow, old.id, "START_UNKNOWN")

    assert wanted.correlation.status == "REQUESTED"


def not_registered(wanted: Wanted) -> None:
    """Change nothing: the instance of the test has never come to the gate."""


def replaced(wanted: Wanted) -> None:
    restart(wanted)


def replaced_and_started(wanted: Wanted) -> None:
    restart(wanted)
    wanted.pass_gate("new instance")


@pytest.mark.parametrize(
    ("before", "instance_id", "expected"),
    [
        (not_registered, OLD, Standing.REGISTERED),
        (not_registered, "duplicate", Standing.REPLACED),
        (replaced, OLD, Standing.REPLACED),
        (replaced, "started, not registered", Standing.UNSETTLED),
        (replaced_and_started, OLD, Standing.REPLACED),
        (replaced_and_started, "new instance", Standing.REGISTERED),
    ],
)
def test_the_domain_says_what_an_instance_is_to_its_aggregate(
    wanted: Wanted, before: Callable[[Wanted], None], instance_id: str, expected: Standing
) -> None:
    before(wanted)

    assert standing(wanted, instance_id) == expected


def test_the_new_process_of_an_order_without_a_cancellation_is_only_started(work: Fulfilment) -> None:
    restart_order(work)

    assert [(row.kind, row.name) for row in queued(work)] == [("START", "order-fulfillment")]


def test_the_new_process_of_an_order_learns_after_its_start_that_a_cancellation_is_open(work: Fulfilment) -> None:
    request = work.ask_to_cancel()

    restart_order(work)

    assert [row.name for row in queued(work)] == ["order-fulfillment", messages.ORDER_CANCELLATION_REQUESTED.name]
    assert queued(work)[-1].variables == {"cancellationId": str(request.id)}


def test_the_new_process_of_an_order_learns_after_its_start_that_it_is_being_cancelled(work: Fulfilment) -> None:
    work.start(RESERVE)
    work.cancel()

    restart_order(work)

    assert [row.name for row in queued(work)] == ["order-fulfillment", messages.ORDER_CANCELLATION_ACCEPTED.name]


def test_a_cancellation_that_is_over_is_not_told_again(work: Fulfilment) -> None:
    work.ask_to_cancel()
    work.decide(accept=False)

    restart_order(work)

    assert told(work) == []


def test_a_restart_waits_for_a_request_to_cancel_that_is_not_committed_yet(work: Fulfilment) -> None:
    order = work.order
    command = RequestCancellation(
        order_id=order.order_id,
        expected_version=order.version,
        expected_status=order.status,
        reason="CHANGED_MIND",
        requested_by=CUSTOMER,
    )
    with ThreadPoolExecutor(1) as pool:
        with work.offers.uow(CUSTOMER) as uow:
            cancelling.request(uow, command)
            uow.flush()
            rival = started(pool, uow.connection, lambda: restart_order(work))
        rival.result()

    assert [row.name for row in queued(work)] == ["order-fulfillment", messages.ORDER_CANCELLATION_REQUESTED.name]


def test_an_order_that_is_planned_again_does_not_carry_out_its_undo_steps(work: Fulfilment) -> None:
    work.complete(RESERVE)
    work.cancel()
    work.evaluate()
    assert work.step("undo RESERVE_INVENTORY")

    with work.offers.uow("order-fulfillment") as uow:
        planned = decomposing.decompose(uow, work.order_id).steps

    assert {step.kind for step in planned} == {StepKind.FULFILL}
