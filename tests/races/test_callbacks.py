"""M5, T7, T8: providers say things twice, late, early and in the wrong order. One record, one effect, and both facts where two contradict."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import permutations
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from sqlalchemy import Engine, insert
from sqlalchemy.exc import IntegrityError

from domain.delivery import callbacks, timelines
from domain.delivery.callbacks import ExternalCallbackConflict, ExternalCallbackRecord, ProcessedStatus, ReceiveCallback, Received
from domain.delivery.steps import FulfillmentStep
from domain.fallout.cases import FalloutCase
from domain.store import table_of
from tests.support.database import count
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.races import race_for_row

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    return work


def receive(work: Fulfilment, event_type: str, event_id: str, step_id: UUID | None = None, **changes: Any) -> Received:
    """Deliver a callback as its door does."""
    command = ReceiveCallback(
        provider_name="sandbox",
        external_event_id=event_id,
        event_type=event_type,
        step_id=step_id or work.step(RESERVE).id,
        external_ref=changes.pop("external_ref", None),
        external_request_id=None,
        external_event_at=None,
        payload={"eventId": event_id, "eventType": event_type, **changes},
    )
    with work.offers.uow("provider:sandbox") as uow:
        received = callbacks.receive(uow, command)
    work.evaluate()
    return received


def five_at_once(db: Engine, work: Fulfilment) -> list[Received | BaseException]:
    """The same event five times; every delivery waits for the step."""
    step_id = work.step(RESERVE).id
    deliveries = [lambda: receive(work, "step.completed", "e-1", step_id)] * 5
    futures = race_for_row(db, table_of(FulfillmentStep), step_id, *deliveries)
    return [future.exception() or future.result() for future in futures]


def transitions(work: Fulfilment) -> list[str]:
    with work.offers.uow() as uow:
        entries = timelines.timeline(uow, work.order_id)
    return [entry["reason"] for entry in entries if entry["kind"] == "TRANSITION" and entry.get("stepCode") == RESERVE]


def test_one_event_five_times_at_once_is_one_record_and_one_transition(db: Engine, work: Fulfilment) -> None:
    received = five_at_once(db, work)

    told = [each for each in received if isinstance(each, Received)]
    assert (len(told), sum(each.replayed for each in told)) == (5, 4)
    assert count(db, ExternalCallbackRecord) == 1
    assert transitions(work) == ["PLAN", "START", "COMPLETE"]


def test_the_same_id_with_another_content_is_a_conflict_and_a_case_and_changes_nothing(db: Engine, work: Fulfilment) -> None:
    receive(work, "step.accepted", "e-1")
    before = work.step(RESERVE)

    with ThreadPoolExecutor(5) as pool:
        conflicts = list(pool.map(lambda number: receive(work, "step.accepted", "e-1", quantity=number), range(5)))

    assert all(received.conflict for received in conflicts)
    assert count(db, ExternalCallbackConflict) == 5
    assert (work.case().type, work.step(RESERVE).version) == ("PROVIDER_CONFLICT", before.version)


def looks_first() -> AbstractContextManager[Any]:
    """The deduplication as it must not be: without a claim, so whoever comes at the same moment acts too."""
    return patch.object(callbacks, "insert", _Insert)


class _Insert:
    """`INSERT` that knows no ON CONFLICT."""

    def __init__(self, table: Any) -> None:
        self._statement = insert(table)

    def on_conflict_do_nothing(self) -> _Insert:
        return self

    def returning(self, *columns: Any) -> Any:
        return self._statement.returning(*columns)


def test_without_the_claim_the_provider_is_answered_with_an_error_of_the_database(db: Engine, work: Fulfilment) -> None:
    """Kills: INSERT without ON CONFLICT. The primary key alone keeps the record single, at the price of a raw error."""
    with looks_first():
        received = five_at_once(db, work)

    assert sum(isinstance(each, IntegrityError) for each in received) == 4
    assert count(db, ExternalCallbackRecord) == 1


WORDS = (("step.accepted", "e-1"), ("step.completed", "e-2"), ("step.completed", "e-3"))


@pytest.mark.parametrize("order", list(permutations(WORDS)), ids=str)
def test_acceptance_and_completion_in_any_order_complete_the_step(work: Fulfilment, order: Sequence[tuple[str, str]]) -> None:
    statuses = {event_id: receive(work, event_type, event_id).processed_status for event_type, event_id in order}

    assert work.step(RESERVE).status == "COMPLETED"
    assert list(statuses.values()).count(ProcessedStatus.APPLIED) == 1
    assert work.cases() == []


def test_a_late_acceptance_has_no_effect(work: Fulfilment) -> None:
    receive(work, "step.completed", "e-1")

    assert receive(work, "step.accepted", "e-2").processed_status is ProcessedStatus.NO_EFFECT


def test_a_late_failure_is_a_contradiction_that_a_person_looks_at(work: Fulfilment) -> None:
    receive(work, "step.completed", "e-1")

    late = receive(work, "step.rejected", "e-2")

    assert (late.processed_status, work.step(RESERVE).status) == (ProcessedStatus.CONTRADICTION, "COMPLETED")
    assert (work.case().type, work.case().status) == ("CONTRADICTORY_CALLBACK", "OPEN")
    [kept] = work.contradictions()
    assert (kept.said, kept.known, kept.external_event_id) == ("FAIL_FINALLY", "COMPLETED", "e-2")
    assert work.step(RESERVE).external_event_id == "e-1"


def test_an_event_that_belongs_to_no_step_calls_a_person_once(work: Fulfilment) -> None:
    for _ in range(2):
        assert receive(work, "step.completed", "e-9", UUID(int=9)).processed_status is ProcessedStatus.UNMATCHED

    with work.offers.uow() as uow:
        rows = uow.connection.execute(table_of(FalloutCase).select().filter_by(tenant_id=work.offers.tenant_id)).all()
    assert [(row.type, row.order_id) for row in rows] == [("UNSOLICITED_CALLBACK", None)]
