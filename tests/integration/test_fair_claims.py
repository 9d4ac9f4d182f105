"""Claims in turns between tenants: of commands for the engine, of events for Kafka, and of what sweeps find without asking a provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from sqlalchemy import Connection, Row, text

from domain.delivery import unsettled
from domain.delivery.orders import SalesOrder
from domain.delivery.steps import FulfillmentStep
from domain.fallout import casework
from domain.fallout.cases import FalloutCase
from domain.offers import withdrawing
from domain.offers.quotes import Quote, QuoteRevision
from domain.store import leases, outbox
from domain.store.facts import WorkflowCommand
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.loading import copied_tenant, insert_copies, insert_events, loading, numbered
from tests.support.offers import ANNA, Offers

LEASE, FLOOD = timedelta(seconds=30), 20
MANY_TIMES = 40  # one tenant is first each time in one of a trillion runs
AGO, LONG_AGO = "clock_timestamp() - interval '1 minute'", "clock_timestamp() - interval '1 hour'"


class Found(NamedTuple):
    """A kind of finding: the query of its sweep, how the test makes one, and what makes many of it: copies of a row that `which` selects."""

    kind: str
    find: Callable[[Connection, int], Sequence[Row[Any]]]
    make: str
    many: Sequence[tuple[Any, dict[str, str]]]
    which: str = "true"


FINDINGS = (
    Found(
        "quote",
        withdrawing.expired_quotes,
        f"UPDATE quote SET status = 'DRAFT', valid_until = {AGO}",
        [
            (
                Quote,
                {
                    "id": numbered("quote"),
                    "current_revision_id": numbered("revision"),
                    "quote_number": "'Q-9' || n",
                    "valid_until": LONG_AGO,
                },
            ),
            (QuoteRevision, {"id": numbered("revision"), "quote_id": numbered("quote")}),
        ],
    ),
    Found(
        "case",
        casework.expired_claims,
        f"UPDATE fallout_case SET claim_expires_at = {AGO}",
        [(FalloutCase, {"case_number": "'F-9' || n", "dedupe_key": "'k' || n", "claim_expires_at": LONG_AGO})],
    ),
    Found(
        "held step",
        partial(unsettled.held_without_case, grace=timedelta(0)),
        "UPDATE fallout_case SET status = 'CANCELLED', owner_user_id = NULL, claim_expires_at = NULL",
        [(FulfillmentStep, {"step_code": "'S' || n", "updated_at": LONG_AGO})],
        which="status = 'HELD'",
    ),
    Found(
        "order",
        partial(unsettled.unevaluated_orders, grace=timedelta(0)),
        "UPDATE fulfillment_step SET status = 'COMPLETED'",
        [
            (
                SalesOrder,
                {"id": numbered("order"), "order_number": "'O-9' || n", "order_kind": "'CHANGE'", "updated_at": LONG_AGO},
            ),
            (FulfillmentStep, {"order_id": numbered("order"), "step_code": "'S' || n"}),
        ],
    ),
)


@pytest.fixture
def other(held: Fulfilment) -> UUID:
    """Another tenant with the same rows: an order with a held step, and a case that somebody has claimed."""
    held.claim(ANNA)
    return copy_of(held.offers)


def copy_of(offers: Offers) -> UUID:
    with loading(offers.engine) as connection:
        return copied_tenant(connection, offers.tenant_id)


def flood(offers: Offers, found: Found) -> None:
    """Let both tenants have one finding, and the tenant of `offers` many older ones."""
    with loading(offers.engine) as connection:
        connection.execute(text(found.make))
        for entity, changes in found.many:
            mine = f"tenant_id = '{offers.tenant_id}' AND {found.which}"
            one = f"SELECT min(id::text)::uuid FROM {entity.__tablename__} WHERE {mine}"
            insert_copies(connection, entity, FLOOD, changes, f"{mine} AND id = ({one})")


def tenants(offers: Offers, process: str, claim: Callable[[Connection], Sequence[Any]]) -> list[str]:
    with housekeeping(acting(offers.engine, process)) as connection:
        return [str(row.tenant_id) for row in claim(connection)]


@pytest.mark.parametrize("found", FINDINGS, ids=lambda found: found.kind)
def test_a_tenant_with_many_findings_leaves_another_one_its_turn(held: Fulfilment, other: UUID, found: Found) -> None:
    flood(held.offers, found)

    assert str(other) in tenants(held.offers, "reconcile", lambda connection: found.find(connection, 4))


@pytest.mark.parametrize("found", FINDINGS, ids=lambda found: found.kind)
def test_a_finding_that_a_reconciler_has_leased_lets_the_others_through(held: Fulfilment, found: Found) -> None:
    held.claim(ANNA)
    flood(held.offers, found)
    taken: set[leases.Key] = set()

    with housekeeping(acting(held.offers.engine, "reconcile")) as connection:
        for _ in range(FLOOD + 1):
            taken |= leases.take(connection, found.kind, found.find(connection, 1), LEASE).keys()

    assert len(taken) == FLOOD + 1


def test_the_dispatcher_alternates_between_tenants(held: Fulfilment) -> None:
    offers = held.offers
    other = copy_of(offers)
    with loading(offers.engine) as connection:
        which = f"position = (SELECT min(position) FROM workflow_command WHERE tenant_id = '{offers.tenant_id}')"
        changes = {"business_key": "'order:' || n", "due_at": LONG_AGO, "status": "'PENDING'"}
        insert_copies(connection, WorkflowCommand, 100, changes, which)

    claimed = tenants(offers, "dispatch", lambda connection: requests.claim(connection, 4, LEASE))

    assert [tenant == str(other) for tenant in claimed[:2]].count(True) == 1


def test_chance_decides_which_tenant_is_first_with_the_dispatcher(held: Fulfilment) -> None:
    """Kills: the oldest tenant first in each turn, so that the calls of the others wait for its slow ones."""
    copy_of(held.offers)
    first = set()

    with housekeeping(acting(held.offers.engine, "dispatch")) as connection:
        for _ in range(MANY_TIMES):
            claimed = requests.claim(connection, 2, LEASE)
            first.add(claimed[0].tenant_id)
            for row in claimed:
                requests.give_back(connection, row)

    assert len(first) == 2


def test_the_relay_alternates_between_tenants(held: Fulfilment) -> None:
    offers = held.offers
    with loading(offers.engine) as connection:
        insert_events(connection, offers.tenant_id, 100)
    other = copy_of(offers)

    claimed = tenants(offers, "relay", lambda connection: outbox.claim(connection, 10, LEASE))

    assert all(
        {first, second} == {str(offers.tenant_id), str(other)} for first, second in zip(claimed[::2], claimed[1::2], strict=True)
    )
