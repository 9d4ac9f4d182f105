"""The status of an order follows its steps: its row changes only when the whole order does (docs/domain.md#orders-and-evaluation)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from domain.catalog import CATALOG, Catalog, ProviderFacts, StepSpecification
from domain.delivery import decomposing, orders
from domain.delivery.resolving import Resolution
from domain.delivery.steps import StepEvent
from tests.support.evidence import record
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, Offers

EIGHT = tuple(StepSpecification(step_code=f"STEP_{number}") for number in range(8))


def header(work: Fulfilment) -> tuple[Any, ...]:
    """The place of the order's row on the disk and its version: every write changes the place."""
    with work.offers.uow() as uow:
        row = uow.connection.execute(text("SELECT ctid, xmin, version FROM sales_order WHERE id = :id"), {"id": work.order_id})
        return tuple(row.one())


def test_eight_parallel_steps_do_not_write_the_row_of_the_order_until_the_last_one(offers: Offers) -> None:
    work = Fulfilment.of_steps(offers, *EIGHT)
    planned = header(work)
    for specification in EIGHT[:-1]:
        work.complete(specification.step_code)
        assert header(work) == planned

    work.complete(EIGHT[-1].step_code)

    assert (work.status, header(work)[2]) == ("FULFILLED", planned[2] + 1)
    record("header writes of an order with eight steps after planning", 1, "writes")


def test_the_same_order_gives_the_same_plan(offers: Offers) -> None:
    work = Fulfilment.running(offers)
    before = work.states()

    with offers.uow("order-fulfillment") as uow:
        again = decomposing.decompose(uow, work.order_id)

    assert ({step.step_code for step in again.steps}, work.states()) == (set(before), before)


def test_steps_have_the_properties_of_their_provider(offers: Offers) -> None:
    facts = ProviderFacts(provider_name="post", idempotent=False, has_lookup=False, cancellable=False, key_window_seconds=60)
    catalog = Catalog(
        catalog_version="1",
        offerings=CATALOG.offerings,
        providers={"post": facts},
        steps=(StepSpecification(step_code="SEND_LETTER", provider_name="post"),),
    )
    work = Fulfilment(offers, offers.accepted_quote().order_id)

    with offers.uow("order-fulfillment") as uow:
        decomposing.decompose(uow, work.order_id, catalog)

    step = work.step("SEND_LETTER")
    assert (step.idempotent, step.has_lookup, step.cancellable, step.key_window_seconds) == (False, False, False, 60)


CYCLE = (StepSpecification(step_code="A", after=frozenset({"B"})), StepSpecification(step_code="B", after=frozenset({"A"})))


@pytest.mark.parametrize(
    ("steps", "fault"),
    [(CYCLE, "wait for each other"), ((StepSpecification(step_code="A", provider_name="nobody"),), "provider nobody")],
    ids=["a cycle", "an unknown provider"],
)
def test_an_order_that_cannot_be_planned_is_held_and_gets_a_case(
    offers: Offers, steps: tuple[StepSpecification, ...], fault: str
) -> None:
    work = Fulfilment.of_steps(offers, *steps)

    assert (work.status, work.case().type) == ("HELD", "DECOMPOSITION_FAILED")
    assert fault in work.case().detail
    with offers.uow("order-fulfillment") as uow:
        assert len(decomposing.decompose(uow, work.order_id).steps) == len(CATALOG.steps)
    assert work.status == "IN_PROGRESS"


def test_an_order_without_a_plan_that_is_being_cancelled_gets_no_plan(offers: Offers) -> None:
    work = Fulfilment.of_steps(offers, *CYCLE)
    work.ask_to_cancel()

    with offers.uow("order-fulfillment") as uow, pytest.raises(orders.OrderNotRunning):
        decomposing.decompose(uow, work.order_id)

    work.decide(accept=True)
    assert work.evaluate() == "CANCELLED"


def test_nobody_is_asked_for_the_plan_of_an_order_that_has_ended(offers: Offers) -> None:
    work = Fulfilment.of_steps(offers, *CYCLE)
    work.ask_to_cancel()

    work.decide(accept=True)
    work.evaluate()

    assert (work.case().status, work.case().resolution) == ("CLOSED", "THE_ORDER_HAS_ENDED")


def test_the_resolved_case_of_a_plan_closes_with_its_order(offers: Offers) -> None:
    """Kills: a case that waits for steps as the proof of its resolution, although the order will never have any."""
    work = Fulfilment.of_steps(offers, *CYCLE)
    work.claim(BERT)
    work.resolve(BERT, Resolution.KEEP_AS_IS)
    work.ask_to_cancel()
    work.decide(accept=True)

    work.evaluate()

    assert (work.case().status, work.case().resolution) == ("CLOSED", "KEEP_AS_IS")


def test_an_order_is_held_only_when_none_of_its_steps_can_go_on(offers: Offers) -> None:
    work = Fulfilment.of_steps(
        offers,
        StepSpecification(step_code="A"),
        StepSpecification(step_code="B"),
        StepSpecification(step_code="C", after=frozenset({"A"})),
        StepSpecification(step_code="D", after=frozenset({"C", "B"})),
    )
    work.start("A")
    work.start("B")
    work.say("A", StepEvent.FAIL_FINALLY)
    assert work.status == "IN_PROGRESS"

    work.say("B", StepEvent.COMPLETE)
    assert work.status == "HELD"

    work.say("A", StepEvent.COMPLETE)
    assert work.status == "IN_PROGRESS"


def test_an_order_without_a_completed_step_fails(offers: Offers) -> None:
    work = Fulfilment.of_steps(offers, StepSpecification(step_code="A"), StepSpecification(step_code="B", after=frozenset({"A"})))
    work.start("A")
    work.say("A", StepEvent.FAIL_FINALLY)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE fulfillment_step SET status = 'FAILED' WHERE step_code = 'A'"))

    assert work.evaluate() == "FAILED"
    assert work.states() == {"A": "FAILED", "B": "CANCELLED"}
