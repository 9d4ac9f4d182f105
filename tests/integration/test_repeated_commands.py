"""A command that finds its work done says so in the log, whichever command it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from domain import accepting
from domain.delivery import decomposing, fulfilling
from domain.delivery.fulfilling import OutcomeSource, RecordFact
from domain.delivery.steps import StepEvent
from domain.offers import approving, escalating, withdrawing
from domain.store import Cause, UnitOfWork
from domain.workflows import starts
from domain.workflows.starts import RegisterWorkflow
from tests.support.fulfilment import Fulfilment
from tests.support.offers import OWNER, Offers
from workers.runtime.commands import unit_of_work

Act = Callable[[UnitOfWork], object]


def cancelling_a_quote(offers: Offers) -> Act:
    offer = offers.draft_quote()
    seen = withdrawing.CancelQuote(
        quote_id=offer.quote_id, revision_id=offer.revision_id, expected_version=offer.version, reason_code="PROJECT_POSTPONED"
    )
    versions = iter((offer.version, offer.version + 1))
    return lambda uow: withdrawing.cancel(uow, replace(seen, expected_version=next(versions)))


def accepting_a_quote(offers: Offers) -> Act:
    command = offers.acceptance(offers.approved_quote())
    return lambda uow: accepting.accept(uow, command)


def opening_requirements(offers: Offers) -> Act:
    offer = offers.submitted_quote()
    command = approving.OpenRequirements(
        quote_id=offer.quote_id,
        quote_revision_id=offer.revision_id,
        price_result_id=offer.price_result_id,
        policy_definition_id="approval-requirements:1",
        process_instance_id=f"instance-{uuid4()}",
        requirements=(),
        reuse=False,
    )
    return lambda uow: approving.open_requirements(uow, command)


def reminding_an_approver(offers: Offers) -> Act:
    [requirement_id] = offers.requirement_ids(offers.quote_in_approval())
    offers.make_late()
    return lambda uow: escalating.remind(uow, requirement_id)


def planning_an_order(offers: Offers) -> Act:
    order_id = offers.accepted_quote().order_id
    return lambda uow: decomposing.decompose(uow, order_id)


def passing_the_gate(offers: Offers) -> Act:
    order_id = offers.accepted_quote().order_id
    with offers.engine.connect() as connection:
        found = text("SELECT business_key, start_token FROM workflow_correlation WHERE aggregate_id = :id")
        key, token = connection.execute(found, {"id": order_id}).one()
    command = RegisterWorkflow(business_key=key, start_token=token, process_instance_id="instance-1")
    return lambda uow: starts.register(uow, command)


def completing_a_step(offers: Offers) -> Act:
    work = Fulfilment.running(offers)
    work.start("RESERVE_INVENTORY")
    step_id = work.step("RESERVE_INVENTORY").id
    fact = RecordFact(step_id=step_id, event=StepEvent.COMPLETE, source=OutcomeSource.CALLBACK, external_request_id="request-1")
    return lambda uow: fulfilling.record_fact(uow, fact)


@pytest.mark.parametrize(
    ("command", "aggregate"),
    [
        (cancelling_a_quote, "quote"),
        (accepting_a_quote, "sales_order"),
        (opening_requirements, "approval_request"),
        (reminding_an_approver, "approval_requirement"),
        (planning_an_order, "sales_order"),
        (passing_the_gate, "workflow_correlation"),
        (completing_a_step, "fulfillment_step"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_second_time_a_command_says_that_it_found_its_work_done(
    db: Engine, offers: Offers, command: Callable[[Offers], Act], aggregate: str
) -> None:
    act = command(offers)

    with capture_logs() as lines:
        for _ in range(2):
            with unit_of_work(db, Cause(tenant_id=offers.tenant_id, actor=OWNER, command="test")) as uow:
                act(uow)

    assert [line["outcome"] for line in lines] == ["executed", "replayed"]
    assert (lines[1]["aggregateType"], lines[1]["log_level"]) == (aggregate, "info")
    assert lines[1]["actualVersion"]
