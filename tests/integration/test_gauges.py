"""Gauges of what is open: by kind, state and age, at the cost of what is open."""

from __future__ import annotations

import math

import pytest
from sqlalchemy import Engine, text

from domain.auditing.open_items import KINDS, open_items
from domain.delivery.steps import StepEvent
from domain.store.unit_of_work import housekeeping
from reconciliation.gauges import INTERVAL, Gauges
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.http import Api, completed
from tests.support.metrics import metric
from tests.support.offers import Offers

RESERVE = "RESERVE_INVENTORY"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gauges(db: Engine, clock: Clock) -> Gauges:
    return Gauges(acting(db, "reconcile"), clock)


def shown(what: str, state: str) -> float:
    return metric("q2o_open_items", what=what, state=state)


def test_what_is_open_is_shown_by_kind_and_state(gauges: Gauges, offers: Offers) -> None:
    offers.quote_in_approval()
    work = Fulfilment.contradicted(offers)
    work.start("CHECK_SERVICEABILITY")

    gauges.sweep()

    assert (shown("order", "IN_PROGRESS") + shown("order", "HELD"), shown("approval", "OPEN")) == (1, 1)
    assert (shown("case", "OPEN"), shown("step", "HELD"), shown("provider_attempt", "SENT")) == (1, 1, 1)
    assert shown("workflow_command", "START") >= 1
    assert shown("workflow_start", "REQUESTED") >= 1


def test_the_oldest_open_item_is_shown_with_its_time(gauges: Gauges, offers: Offers, db: Engine) -> None:
    offers.quote_in_approval()

    gauges.sweep()

    with db.connect() as connection:
        since = connection.scalar(text("SELECT min(created_at) FROM approval_request WHERE status = 'OPEN'"))
    assert metric("q2o_open_items_oldest_timestamp_seconds", what="approval", state="OPEN") == since.timestamp()


def test_a_state_without_an_item_is_shown_as_none(gauges: Gauges, clock: Clock, offers: Offers, db: Engine) -> None:
    offers.quote_in_approval()
    gauges.sweep()
    clock.seconds += INTERVAL.total_seconds()
    with db.begin() as connection:
        connection.execute(text("UPDATE approval_request SET status = 'INVALIDATED'"))

    gauges.sweep()

    assert shown("approval", "OPEN") == 0
    assert math.isnan(metric("q2o_open_items_oldest_timestamp_seconds", what="approval", state="OPEN"))


def test_the_database_is_asked_once_in_an_interval(gauges: Gauges, clock: Clock, offers: Offers) -> None:
    gauges.sweep()
    before = shown("approval", "OPEN")
    offers.quote_in_approval()

    gauges.sweep()

    assert shown("approval", "OPEN") == before
    clock.seconds += INTERVAL.total_seconds()
    gauges.sweep()
    assert shown("approval", "OPEN") == before + 1


def test_every_process_that_shows_gauges_may_read_what_they_show(db: Engine) -> None:
    with housekeeping(acting(db, "reconcile")) as connection:
        found = {(each.what, each.state) for each in open_items(connection)}

    assert found == {(kind.what, str(state)) for kind in KINDS for state in kind.states}


def test_a_completion_that_overtakes_a_cancellation_is_counted(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()
    before = metric("q2o_cancel_complete_races_total", result="completed")

    api.call_back(completed(offers.tenant_id, work.step(RESERVE).id))

    assert metric("q2o_cancel_complete_races_total", result="completed") == before + 1


def test_a_completion_after_a_confirmed_cancellation_is_counted_as_a_contradiction(api: Api, offers: Offers) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()
    work.say(RESERVE, StepEvent.CONFIRM_CANCEL)
    names = {"said": "COMPLETE", "known": "CANCELLED"}
    before = metric("q2o_contradictions_total", **names), metric("q2o_cancel_complete_races_total", result="contradicted")

    api.call_back(completed(offers.tenant_id, work.step(RESERVE).id))

    after = metric("q2o_contradictions_total", **names), metric("q2o_cancel_complete_races_total", result="contradicted")
    assert after == (before[0] + 1, before[1] + 1)
