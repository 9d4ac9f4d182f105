"""Callbacks that came before their step: each acts by the command of a callback once the step is there, and at most once."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, text

from domain.delivery import callbacks
from domain.delivery.callbacks import ReceiveCallback
from domain.store import table_of
from reconciliation import unmatched
from reconciliation.repairs import Repairs
from reconciliation.unmatched import Unmatched
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.reconciling import actions

RESERVE = "RESERVE_INVENTORY"
STRANGE = UUID(int=7)


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order with a step under way."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    return work


def receive(work: Fulfilment, step_id: UUID, event_type: str = "step.completed", provider: str = "sandbox") -> str:
    event_id = f"evt-{uuid4()}"
    command = ReceiveCallback(
        provider_name=provider,
        external_event_id=event_id,
        event_type=event_type,
        step_id=step_id,
        external_ref="REF-1",
        external_request_id="req-1",
        external_event_at=None,
        payload={"eventId": event_id, "externalRef": "REF-1", "requestId": "req-1"},
    )
    with work.offers.uow("callback") as uow:
        callbacks.receive(uow, command)
    return event_id


def arrived_early(work: Fulfilment, event_type: str = "step.completed", provider: str = "sandbox") -> str:
    """Receive an event about a step that is not there yet, and let the step turn up."""
    event_id = receive(work, STRANGE, event_type, provider)
    execute(work, f"UPDATE external_callback_record SET step_id = '{work.step(RESERVE).id}' WHERE external_event_id = '{event_id}'")
    return event_id


def execute(work: Fulfilment, statement: str) -> None:
    with work.offers.engine.begin() as connection:
        connection.execute(text(statement))


def sweep(work: Fulfilment, *, dry_run: bool = False) -> int:
    database = acting(work.offers.engine, "reconcile")
    return Unmatched(database, Repairs(database, dry_run=dry_run)).sweep()


def processed(work: Fulfilment, event_id: str) -> str:
    record = table_of(callbacks.ExternalCallbackRecord).c
    with work.offers.engine.connect() as connection:
        return str(connection.scalar(select(record.processed_status).where(record.external_event_id == event_id)))


def cases(work: Fulfilment) -> list[Any]:
    with work.offers.engine.connect() as connection:
        return list(connection.execute(text("SELECT status FROM fallout_case WHERE type = 'UNSOLICITED_CALLBACK'")).scalars())


def test_a_callback_that_came_before_its_step_completes_the_step_and_ends_its_case(work: Fulfilment) -> None:
    event_id = arrived_early(work)

    assert sweep(work) == 1

    step = work.step(RESERVE)
    assert (step.status, step.external_ref, step.external_event_id) == ("COMPLETED", "REF-1", event_id)
    assert (processed(work, event_id), cases(work)) == ("APPLIED", ["CLOSED"])
    assert actions(work.offers) == ["matched"]


def test_a_callback_acts_once(work: Fulfilment) -> None:
    event_id = arrived_early(work)
    sweep(work)

    assert sweep(work) == 0
    with work.offers.uow() as uow:
        assert not callbacks.match(uow, "sandbox", event_id)


def test_a_callback_whose_step_never_turns_up_waits_without_a_second_case(work: Fulfilment) -> None:
    receive(work, STRANGE)

    assert sweep(work) == 0

    assert cases(work) == ["OPEN"]


def test_a_callback_of_another_provider_matches_no_step(work: Fulfilment) -> None:
    arrived_early(work, provider="somebody else")

    assert sweep(work) == 0

    assert work.step(RESERVE).status == "IN_PROGRESS"


def test_an_event_that_means_nothing_to_us_opens_no_case_again_and_again(work: Fulfilment) -> None:
    """Kills: opening a case in each round for an event that matches a step and says nothing about it."""
    arrived_early(work, event_type="step.praised")
    execute(work, "UPDATE fallout_case SET status = 'CLOSED'")

    assert sweep(work) == 0

    assert cases(work) == ["CLOSED"]


def test_many_callbacks_that_never_match_do_not_keep_the_others_waiting(work: Fulfilment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmatched, "PAGE", 2)
    for _ in range(3):
        receive(work, STRANGE)
    arrived_early(work)
    database = acting(work.offers.engine, "reconcile")
    unmatched_callbacks = Unmatched(database, Repairs(database, dry_run=False))

    assert [unmatched_callbacks.sweep() for _ in range(3)] == [0, 1, 0]


def test_a_dry_run_matches_nothing(work: Fulfilment) -> None:
    event_id = arrived_early(work)

    assert sweep(work, dry_run=True) == 1

    assert processed(work, event_id) == "UNMATCHED"
