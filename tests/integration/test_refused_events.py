"""An event that Kafka has refused for too long is left to a person, who may have it sent again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, text

from domain import auditing
from domain.delivery.resolving import Resolution
from domain.retry_rules import EVENT_REFUSED
from domain.store import outbox
from domain.store.transactions import transaction
from domain.store.unit_of_work import housekeeping
from reconciliation.refused_events import RefusedEvents
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, Offers


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order whose first event Kafka has refused for longer than its time."""
    work = Fulfilment.running(offers)
    position = event(work).position
    for _ in range(2):
        with housekeeping(acting(offers.engine, "relay")) as connection:
            outbox.note_refused(connection, {position: "Broker: Message size too large"})
        with offers.engine.begin() as connection:
            ago = {"time": EVENT_REFUSED.time + timedelta(minutes=5)}
            connection.execute(text("UPDATE outbox_event SET refused_since = refused_since - CAST(:time AS interval)"), ago)
    return work


def event(work: Fulfilment) -> Row[Any]:
    """The first event of the order."""
    query = text("SELECT * FROM outbox_event WHERE aggregate_id = :order ORDER BY position LIMIT 1")
    with work.offers.engine.connect() as connection:
        return connection.execute(query, {"order": work.order_id}).one()


def sweep(work: Fulfilment) -> int:
    database = acting(work.offers.engine, "reconcile")
    return RefusedEvents(database, Repairs(database, dry_run=False)).sweep()


def test_a_refused_event_has_one_case_with_what_was_tried(work: Fulfilment) -> None:
    assert (sweep(work), sweep(work)) == (1, 0)

    case = work.case()
    assert (case.type, case.evidence["lastReason"]) == ("TECHNICAL", "Broker: Message size too large")
    assert {"tried", "times", "since", "eventId"} <= set(case.evidence)


def test_a_refused_event_no_longer_holds_the_later_ones_of_its_aggregate(work: Fulfilment) -> None:
    with housekeeping(acting(work.offers.engine, "relay")) as connection:
        claimed = outbox.claim(connection, 100, timedelta(seconds=30))

    assert event(work).status == "REFUSED"
    assert min(each.aggregate_version for each in claimed if each.aggregate_id == str(work.order_id)) == 2


def test_a_refused_event_is_sent_again_when_a_person_says_so(work: Fulfilment) -> None:
    sweep(work)
    work.claim(BERT)

    resolved = work.resolve(BERT, Resolution.RETRY)

    assert (resolved.status, event(work).status, event(work).refused_since) == ("CLOSED", "PENDING", None)


def test_the_audit_sees_that_a_person_had_an_event_sent_again(work: Fulfilment) -> None:
    """Kills: blaming Kafka for the order of events after a person had a refused event sent again behind later ones."""
    sweep(work)
    work.claim(BERT)
    before = sent_again(work)

    work.resolve(BERT, Resolution.RETRY)

    assert (before, set(sent_again(work))) == ({}, {str(work.order_id)})
    assert sent_again(work)[str(work.order_id)] > event(work).created_at


def sent_again(work: Fulfilment) -> Mapping[str, datetime]:
    """For each aggregate, when its refused events were sent again, as the audit sees it."""
    with transaction(acting(work.offers.engine, "audit"), work.offers.tenant_id) as connection:
        return auditing.inspect(connection, work.offers.tenant_id).sent_again
