"""The story of an order tells the approval of its offer, its cancellations and its alerts too."""

from __future__ import annotations

import pytest

from domain import findings, stories
from domain.delivery import jeopardy
from domain.delivery.cancellations import CancellationDecided
from domain.delivery.jeopardy import JeopardyLevel
from domain.offers import quotes
from domain.store import Cause, reading
from domain.workflows import starts
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from workers.explaining import sentences


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def told(work: Fulfilment) -> list[str]:
    """The sentences about the order, with the rights of `audit`."""
    cause = Cause(tenant_id=work.offers.tenant_id, actor="audit", command="explain")
    with reading(acting(work.offers.engine, "audit"), cause) as uow:
        [row] = stories.find_orders(uow.connection, str(work.order_id))
        return [each.text for each in sentences(stories.story(uow, row))]


def test_the_story_tells_what_became_of_the_process_of_the_approval(work: Fulfilment) -> None:
    """Kills: a story without the start, the unknown outcome and the findings of a process that is about a revision."""
    order = work.row()
    key = quotes.business_key(work.offers.tenant_id, order.quote_id, order.quote_revision_id)
    with work.offers.uow("dispatch") as uow:
        starts.start_timed_out(uow, key)
        process = starts.find(uow, key)
        for aggregate_type, aggregate_id in (("workflow_correlation", process.id), ("quote_revision", order.quote_revision_id)):
            about = {"aggregate_type": aggregate_type, "aggregate_id": aggregate_id, "evidence": {"instances": 1}}
            findings.record(uow, kind="start", action="attached", **about)

    story = told(work)

    assert [each for each in story if each.startswith("The process quote-approval was made, by ")]
    assert "The process quote-approval went from REQUESTED to START_UNKNOWN (time out), by dispatch." in story
    assert "Reconciliation (start) of the process quote-approval: attached; it saw instances 1." in story
    assert "Reconciliation (start): attached; it saw instances 1." in story


def test_the_story_tells_what_was_refused_about_a_cancellation(work: Fulfilment) -> None:
    work.ask_to_cancel()
    request = work.cancellation()
    with work.offers.uow("felix") as uow:
        uow.flag_conflict(CancellationDecided.about(request, aggregate_type="cancellation_request"))

    [refusal] = [each for each in told(work) if " refused " in each]

    assert refusal.startswith("The cancellation refused ")
    assert f"of felix with {CancellationDecided.code}" in refusal


def test_the_story_tells_when_the_order_was_in_jeopardy(work: Fulfilment) -> None:
    with work.offers.uow("worker-1") as uow:
        jeopardy.raise_alert(uow, work.order_id, JeopardyLevel.HAZARD)
    with work.offers.uow("worker-1") as uow:
        jeopardy.clear_all(uow, work.order_id)

    alerts = [each for each in told(work) if each.startswith("The alert")]

    assert alerts == [
        "The alert that the order may be late (hazard) was made, by worker-1: it is RAISED.",
        "The alert that the order may be late (hazard) went from RAISED to CLEARED (clear), by worker-1.",
    ]
