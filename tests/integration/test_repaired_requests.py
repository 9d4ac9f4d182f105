"""A repaired request is a new one to the provider (decision 0019): it has a key of its own, and what is said of it names that key."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from domain.delivery import cases_shown, repairing, timelines, troubles
from domain.delivery.proposing import propose
from domain.delivery.repairing import INSTRUCTIONS, OFFERING, QUANTITY, Change, RepairMissing, RepairNotFitting
from domain.delivery.resolving import Resolution, ResolveCase
from domain.delivery.step_moves import ResolutionNotAllowed
from domain.delivery.steps import FailureClass, StepEvent
from domain.fallout import triaging
from domain.workflows.keys import BusinessKey, Kind
from tests.support.answering import Reply, Request, answering
from tests.support.database import acting
from tests.support.external_tasks import task_of
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, Offers
from tests.support.rules import KnownEngine
from workers.providers.http_provider import HttpProvider
from workers.tasks.fulfillment import Fulfillment

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order of two routers with a held step, which the provider rejected, and its case."""
    work = Fulfilment.running(offers)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE sales_order_line SET quantity = 2"))
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)
    step = work.step(RESERVE)
    with offers.uow("worker") as uow:
        triaging.open_case(uow, troubles.of_held_step(step))
    return work


def test_a_repaired_request_is_a_new_one_to_the_provider(held: Fulfilment) -> None:
    """Kills: sending a repaired request under the key of the rejected one."""
    rejected = held.step(RESERVE)
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY)

    again = held.start(RESERVE)

    assert again.idempotency_key == f"fulfillment:{rejected.id}:EXECUTE:2"
    held.cancel()
    cancellation = held.start_cancelling(RESERVE)
    assert (cancellation.idempotency_key, cancellation.request_key) == (
        f"fulfillment:{rejected.id}:CANCEL:2",
        again.idempotency_key,
    )


def test_the_undo_of_a_repaired_step_names_the_request_that_completed(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY)
    done = held.start(RESERVE)
    held.say(RESERVE, StepEvent.COMPLETE)
    held.cancel()
    held.evaluate()

    assert held.start(f"undo {RESERVE}").compensates == done.idempotency_key


def test_a_request_that_may_have_taken_effect_is_not_repaired(offers: Offers) -> None:
    """Kills: a repair beside an attempt with an unknown outcome; the provider would carry out both."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)  # of a step that is not being cancelled
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE provider_attempt SET status = 'UNKNOWN'"))
    work.claim(BERT)

    with pytest.raises(ResolutionNotAllowed):
        work.resolve(BERT, Resolution.REPAIR_AND_RETRY)


def change(field: str, old: str | int | None, new: str | int | None) -> tuple[Change, ...]:
    return (Change(field=field, old=old, new=new),)


def test_a_repaired_request_says_what_was_repaired_and_the_order_stays_as_accepted(held: Fulfilment) -> None:
    held.claim(ANNA)
    before = held.order.body

    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=(*change(QUANTITY, 2, 1), *change(INSTRUCTIONS, None, "Ring twice")))

    again = held.start(RESERVE)
    assert (again.quantity, again.instructions, again.product_offering_id) == (1, "Ring twice", "ROUTER_PRO")
    assert held.order.body["quoteId"] == before["quoteId"]
    with held.offers.engine.connect() as connection:
        assert connection.scalar(text("SELECT quantity FROM sales_order_line WHERE product_offering_id = 'ROUTER_PRO'")) == 2


def test_the_provider_gets_the_repaired_request(held: Fulfilment) -> None:
    """Kills: a worker that leaves out what a person has written to the provider."""
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=(*change(QUANTITY, 2, 1), *change(INSTRUCTIONS, None, "Ring twice")))
    key = BusinessKey(Kind.STEP, held.offers.tenant_id, (held.step(RESERVE).id,))
    task = task_of(key, "fulfillment.execute-step")
    sent: list[dict[str, Any]] = []

    def answer(request: Request) -> Reply:
        sent.append(json.loads(request.body))
        return Reply(status=202, body=b'{"status": "ACCEPTED", "requestId": "r-1"}')

    with answering(answer) as url, HttpProvider(url, "token") as provider:
        database, engine = acting(held.offers.engine, "tasks"), KnownEngine().door
        Fulfillment(database, engine, {"sandbox": provider}, timedelta(minutes=1)).execute(task, key)

    assert [(body["quantity"], body.get("instructions"), body["productOfferingId"]) for body in sent] == [
        (1, "Ring twice", "ROUTER_PRO")
    ]


def test_a_repair_is_kept_as_a_difference_and_shown_with_its_case(held: Fulfilment) -> None:
    held.claim(ANNA)

    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=change(QUANTITY, 2, 1))

    with held.offers.uow() as uow:
        [repair] = cases_shown.case(uow, held.case(), held.as_seen(ANNA))["repairs"]
        [entry] = [each for each in timelines.timeline(uow, held.order_id) if each["kind"] == "REPAIR"]
    assert {name: repair[name] for name in ("field", "old", "new", "requestNo", "repairedBy")} == {
        "field": QUANTITY,
        "old": 2,
        "new": 1,
        "requestNo": 2,
        "repairedBy": ANNA,
    }
    assert (entry["field"], entry["old"], entry["new"], entry["actor"]) == (QUANTITY, 2, 1, ANNA)


def test_a_second_repair_keeps_the_first(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=change(QUANTITY, 2, 1))
    held.start(RESERVE)
    held.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED)
    with held.offers.uow("worker") as uow:
        case = triaging.open_case(uow, troubles.of_held_step(held.step(RESERVE)))
    assert case.status == "OPEN"
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=change(INSTRUCTIONS, None, "Ring twice"))

    again = held.start(RESERVE)

    assert (again.quantity, again.instructions, again.idempotency_key.rpartition(":")[2]) == (1, "Ring twice", "3")


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ((), RepairMissing),
        (change(QUANTITY, 2, 2), RepairMissing),
        (change(QUANTITY, 1, 2), RepairNotFitting),
        (change(QUANTITY, 2, 3), RepairNotFitting),
        (change(QUANTITY, 2, 0), RepairNotFitting),
        (change(QUANTITY, 2, "1"), RepairNotFitting),
        (change(OFFERING, "ROUTER_PRO", "NO_SUCH"), RepairNotFitting),
        (change(OFFERING, "ROUTER_PRO", None), RepairNotFitting),
        (change(INSTRUCTIONS, None, ""), RepairNotFitting),
        (change(INSTRUCTIONS, None, "two\nlines"), RepairNotFitting),
        (change(INSTRUCTIONS, None, "x" * 201), RepairNotFitting),
        (change(INSTRUCTIONS, None, 5), RepairNotFitting),
        (change("orderRef", None, "x"), RepairNotFitting),
        (change(QUANTITY, 2, 1) * 2, RepairNotFitting),
    ],
    ids=str,
)
def test_a_repair_that_the_step_cannot_send_is_refused_and_changes_nothing(
    held: Fulfilment, changes: tuple[Change, ...], refusal: type[Exception]
) -> None:
    held.claim(ANNA)

    with pytest.raises(refusal):
        held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=changes)

    assert (held.step(RESERVE).status, held.step(RESERVE).request_changes, held.case().status) == ("HELD", {}, "IN_PROGRESS")


def test_only_a_repair_brings_changes(held: Fulfilment) -> None:
    held.claim(ANNA)

    with pytest.raises(RepairNotFitting):
        held.resolve(ANNA, Resolution.RETRY, changes=change(QUANTITY, 2, 1))


def test_a_repair_is_not_proposed(held: Fulfilment) -> None:
    held.claim(ANNA)
    seen = held.as_seen(ANNA)
    command = ResolveCase(
        case_id=seen.case_id,
        expected_version=seen.expected_version,
        person=ANNA,
        roles=seen.roles,
        resolution=Resolution.REPAIR_AND_RETRY,
        expected_step_version=held.step(RESERVE).version,
        evidence="seen",
        changes=change(QUANTITY, 2, 1),
    )

    with pytest.raises(RepairNotFitting), held.offers.uow(ANNA) as uow:
        propose(uow, command)


def test_a_step_that_is_undone_is_undone_as_it_was_requested(held: Fulfilment) -> None:
    held.claim(ANNA)
    held.resolve(ANNA, Resolution.REPAIR_AND_RETRY, changes=change(QUANTITY, 2, 1))
    held.start(RESERVE)
    held.say(RESERVE, StepEvent.COMPLETE)
    held.cancel()
    held.evaluate()

    assert held.start(f"undo {RESERVE}").quantity == 1


def test_only_the_request_of_a_held_step_can_be_repaired(held: Fulfilment) -> None:
    with held.offers.uow() as uow:
        assert repairing.request_to_repair(uow, held.step(RESERVE)) == {OFFERING: "ROUTER_PRO", QUANTITY: 2, INSTRUCTIONS: None}
        assert repairing.request_to_repair(uow, held.step("CHECK_SERVICEABILITY")) is None
