"""Metrics of handlers, sweeps, relay and inbox that no test of their behaviour looks at."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from sqlalchemy import Engine, text

from reconciliation.repairs import Repairs
from reconciliation.starts import Starts
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.handled import handler_of, task_of
from tests.support.http import Api, withdraw
from tests.support.metrics import metric
from tests.support.offers import ANNA, BERT, Offers
from tests.support.projected import envelope_of, events_of, feed
from tests.support.rules import KnownEngine
from workers.http.auth import Role
from workers.kafka.relay import Relay
from workers.kafka.views import ORDERS
from workers.pod.contract import RetryLater
from workers.providers.port import Provider, ProviderOutcomeUnknownError, ProviderRequest
from workers.runtime.kafka_access import KafkaAccess

RESERVE = "RESERVE_INVENTORY"
NO_KAFKA = KafkaAccess(bootstrap="127.0.0.1:1")


class SilentProvider:
    """Takes a request and never answers."""

    def execute(self, _: ProviderRequest) -> None:
        raise ProviderOutcomeUnknownError("no answer")


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    return Fulfilment.running(offers)


def test_a_request_without_an_answer_is_counted_at_its_provider(work: Fulfilment) -> None:
    before = metric("q2o_provider_unknown_outcomes_total", provider="sandbox")

    handler_of(work, {"sandbox": cast("Provider", SilentProvider())}).execute(*task_of(work, RESERVE))

    assert work.step(RESERVE).status == "UNKNOWN"
    assert metric("q2o_provider_unknown_outcomes_total", provider="sandbox") == before + 1


def test_a_step_that_another_worker_has_begun_is_counted_as_prevented(work: Fulfilment) -> None:
    work.start(RESERVE)
    before = metric("q2o_step_duplicate_executions_prevented_total", command="fulfillment.execute-step")

    with pytest.raises(RetryLater):
        handler_of(work).execute(*task_of(work, RESERVE))

    assert metric("q2o_step_duplicate_executions_prevented_total", command="fulfillment.execute-step") == before + 1


@pytest.mark.parametrize(("status", "number"), [("START_UNKNOWN", 1), ("REQUESTED", 0)])
def test_starts_without_an_outcome_are_shown(db: Engine, offers: Offers, status: str, number: int) -> None:
    order = offers.accepted_quote()
    with db.begin() as connection:
        change = text(
            "UPDATE workflow_correlation SET status = :status, next_check_at = now() + interval '1 hour' WHERE aggregate_id = :id"
        )
        connection.execute(change, {"status": status, "id": order.order_id})
    pool = acting(db, "reconcile")

    Starts(pool, KnownEngine().door, Repairs(pool, dry_run=True), timedelta(hours=1)).sweep()

    assert metric("q2o_workflow_start_unresolved") == number


def test_what_kafka_has_not_confirmed_is_shown_with_the_time_of_the_oldest(db: Engine, offers: Offers) -> None:
    offers.draft_quote()
    with db.connect() as connection:
        waiting, oldest = connection.execute(text("SELECT count(*), min(created_at) FROM outbox_event")).one()

    Relay(acting(db, "relay"), NO_KAFKA)._gauge()

    assert metric("q2o_outbox_unpublished") == waiting
    assert metric("q2o_outbox_oldest_unpublished_timestamp_seconds") == oldest.timestamp()


def test_an_empty_outbox_has_no_oldest_event(db: Engine) -> None:
    Relay(acting(db, "relay"), NO_KAFKA)._gauge()

    assert metric("q2o_outbox_unpublished") == 0
    assert math.isnan(metric("q2o_outbox_oldest_unpublished_timestamp_seconds"))


def test_the_age_of_the_event_that_was_applied_last_is_shown(db: Engine, offers: Offers) -> None:
    offers.accepted_quote()
    [event] = events_of(db, "sales_order")

    feed(db, ORDERS, [envelope_of(event)])

    lag = metric("q2o_projection_lag_seconds", projection=ORDERS.projection)
    assert 0 < lag <= (datetime.now(UTC) - event.created_at).total_seconds()


def test_a_command_is_timed_by_its_outcome(api: Api, offers: Offers) -> None:
    offer = offers.draft_quote()
    labels = {"command": "cancel-quote", "outcome": "replayed"}
    withdraw(api.sales, offer, "cancellations", key="k")
    before = metric("q2o_command_duration_seconds_count", **labels)

    withdraw(api.sales, offer, "cancellations", key="k")

    assert metric("q2o_command_duration_seconds_count", **labels) == before + 1


def test_a_case_that_somebody_else_has_claimed_is_counted(api: Api, offers: Offers) -> None:
    case = Fulfilment.contradicted(offers).case()
    before = metric("q2o_fallout_claim_conflicts_total", command="claim-case")

    for person in (ANNA, BERT):
        offers.grant_authority(person, Role.FALLOUT_L2)
        api.caller(person, Role.FALLOUT_L2).post(f"/fallout-cases/{case.id}/claims", {}, version=case.version)

    assert metric("q2o_fallout_claim_conflicts_total", command="claim-case") == before + 1
