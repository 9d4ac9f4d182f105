"""Providers say things twice, late, early and in the wrong order: one record, one effect, and both facts are kept where two contradict."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import permutations
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from sqlalchemy import Row, insert
from sqlalchemy.exc import IntegrityError

from domain.delivery import callbacks, timelines
from domain.delivery.callbacks import ExternalCallbackConflict, ExternalCallbackRecord, ProcessedStatus, ReceiveCallback, Received
from domain.delivery.steps import FulfillmentStep
from domain.fallout.cases import FalloutCase
from domain.store import table_of
from tests.support.database import count
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.races import NewOffers, race_for_row

RESERVE = "RESERVE_INVENTORY"
TIMES = 5
NOBODYS_STEP = UUID(int=9)


def with_a_step_under_way(offers: Offers) -> Fulfilment:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    return work


@pytest.fixture
def under_way(offers: Offers) -> Fulfilment:
    return with_a_step_under_way(offers)


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


def transitions(work: Fulfilment) -> list[str]:
    with work.offers.uow() as uow:
        entries = timelines.timeline(uow, work.order_id)
    return [entry["reason"] for entry in entries if entry["kind"] == "TRANSITION" and entry.get("stepCode") == RESERVE]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """What came of one completion that was delivered five times at once."""

    received: Sequence[Received]
    errors: Sequence[BaseException]
    records: int
    transitions: Sequence[str]


def delivered_at_once(work: Fulfilment) -> Repeated:
    """Let every delivery wait for the step."""
    step_id = work.step(RESERVE).id
    deliveries = [lambda: receive(work, "step.completed", "e-1", step_id)] * TIMES

    rivals = race_for_row(work.offers.engine, table_of(FulfillmentStep), step_id, *deliveries)

    return Repeated(
        received=[rival.result() for rival in rivals if rival.exception() is None],
        errors=[error for rival in rivals if (error := rival.exception()) is not None],
        records=count(work.offers.engine, ExternalCallbackRecord),
        transitions=transitions(work),
    )


@pytest.fixture(scope="module")
def repeated(new_offers: NewOffers) -> Repeated:
    return delivered_at_once(with_a_step_under_way(new_offers()))


def test_of_five_deliveries_of_one_event_at_once_four_are_told_that_they_are_replays(repeated: Repeated) -> None:
    assert sorted(each.replayed for each in repeated.received) == [False, True, True, True, True]


def test_five_deliveries_of_one_event_at_once_leave_one_record(repeated: Repeated) -> None:
    """Kills: taking the primary key of the record and the claim away together."""
    assert repeated.records == 1


def test_five_deliveries_of_one_event_at_once_complete_the_step_once(repeated: Repeated) -> None:
    assert repeated.transitions == ["PLAN", "START", "COMPLETE"]


@pytest.fixture(scope="module")
def unclaimed(new_offers: NewOffers) -> Repeated:
    work = with_a_step_under_way(new_offers())

    with looking_first():
        return delivered_at_once(work)


def looking_first() -> AbstractContextManager[Any]:
    """Run the block with the deduplication as it must not be: without a claim, so each of those who come at once acts."""
    return patch.object(callbacks, "insert", _Insert)


class _Insert:
    """`INSERT` that knows no ON CONFLICT."""

    def __init__(self, table: Any) -> None:
        self._statement = insert(table)

    def on_conflict_do_nothing(self) -> _Insert:
        return self

    def returning(self, *columns: Any) -> Any:
        return self._statement.returning(*columns)


def test_without_the_claim_the_provider_is_answered_with_an_error_of_the_database(unclaimed: Repeated) -> None:
    """Kills: INSERT without ON CONFLICT."""
    assert [type(error) for error in unclaimed.errors] == [IntegrityError] * 4


def test_without_the_claim_the_primary_key_alone_keeps_the_record_single(unclaimed: Repeated) -> None:
    """The provider still gets a raw database error instead of an answer, as the test above shows."""
    assert unclaimed.records == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Altered:
    """What came of an event whose id returned five times, each time with another content."""

    received: Sequence[Received]
    conflicts: int
    cases: Sequence[Row[Any]]
    versions: tuple[int, int]  # of the step, before and after


@pytest.fixture(scope="module")
def altered(new_offers: NewOffers) -> Altered:
    work = with_a_step_under_way(new_offers())
    receive(work, "step.accepted", "e-1")
    before = work.step(RESERVE).version

    with ThreadPoolExecutor(TIMES) as pool:
        received = list(pool.map(lambda number: receive(work, "step.accepted", "e-1", quantity=number), range(TIMES)))

    conflicts, versions = count(work.offers.engine, ExternalCallbackConflict), (before, work.step(RESERVE).version)
    return Altered(received=received, conflicts=conflicts, cases=work.cases(), versions=versions)


def test_the_same_id_with_another_content_is_a_conflict(altered: Altered) -> None:
    assert [each.conflict for each in altered.received] == [True] * TIMES


def test_every_content_that_came_under_one_id_is_kept(altered: Altered) -> None:
    assert altered.conflicts == TIMES


def test_the_same_id_with_another_content_opens_one_case(altered: Altered) -> None:
    assert [case.type for case in altered.cases] == ["PROVIDER_CONFLICT"]


def test_the_same_id_with_another_content_changes_nothing_of_the_step(altered: Altered) -> None:
    before, after = altered.versions

    assert after == before


WORDS = (("step.accepted", "e-1"), ("step.completed", "e-2"), ("step.completed", "e-3"))
ORDERS = {" ".join(event_id for _, event_id in order): order for order in permutations(WORDS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of one acceptance and two completions that arrived in some order."""

    processed: Sequence[ProcessedStatus]
    status: str
    cases: int


@pytest.fixture(scope="module")
def told(new_offers: NewOffers) -> dict[str, Told]:
    """Deliver the three in every order, each to a step of its own; the key names the order."""
    return {name: told_in(order, with_a_step_under_way(new_offers())) for name, order in ORDERS.items()}


def told_in(order: Sequence[tuple[str, str]], work: Fulfilment) -> Told:
    processed = [receive(work, event_type, event_id).processed_status for event_type, event_id in order]

    return Told(processed=processed, status=work.step(RESERVE).status, cases=len(work.cases()))


@pytest.mark.parametrize("order", ORDERS)
def test_acceptance_and_completions_in_any_order_complete_the_step(told: dict[str, Told], order: str) -> None:
    assert told[order].status == "COMPLETED"


@pytest.mark.parametrize("order", ORDERS)
def test_of_an_acceptance_and_completions_in_any_order_one_is_applied(told: dict[str, Told], order: str) -> None:
    assert told[order].processed.count(ProcessedStatus.APPLIED) == 1


@pytest.mark.parametrize("order", ORDERS)
def test_acceptance_and_completions_in_any_order_open_no_case(told: dict[str, Told], order: str) -> None:
    assert told[order].cases == 0


def test_a_late_acceptance_has_no_effect(under_way: Fulfilment) -> None:
    receive(under_way, "step.completed", "e-1")

    late = receive(under_way, "step.accepted", "e-2")

    assert late.processed_status is ProcessedStatus.NO_EFFECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Contradicted:
    """What came of a failure that was told after the completion of the same step."""

    late: Received
    step: Row[Any]
    cases: Sequence[Row[Any]]
    contradictions: Sequence[Row[Any]]


@pytest.fixture(scope="module")
def contradicted(new_offers: NewOffers) -> Contradicted:
    work = with_a_step_under_way(new_offers())
    receive(work, "step.completed", "e-1")

    late = receive(work, "step.rejected", "e-2")

    return Contradicted(late=late, step=work.step(RESERVE), cases=work.cases(), contradictions=work.contradictions())


def test_a_failure_that_is_told_after_the_completion_is_a_contradiction(contradicted: Contradicted) -> None:
    assert contradicted.late.processed_status is ProcessedStatus.CONTRADICTION


def test_a_late_failure_leaves_the_step_completed(contradicted: Contradicted) -> None:
    assert contradicted.step.status == "COMPLETED"


def test_a_late_failure_leaves_the_step_the_event_that_completed_it(contradicted: Contradicted) -> None:
    assert contradicted.step.external_event_id == "e-1"


def test_a_late_failure_opens_a_case_so_that_a_person_looks_at_it(contradicted: Contradicted) -> None:
    assert [(case.type, case.status) for case in contradicted.cases] == [("CONTRADICTORY_CALLBACK", "OPEN")]


def test_a_late_failure_is_kept_beside_what_was_known(contradicted: Contradicted) -> None:
    kept = [(each.said, each.known, each.external_event_id) for each in contradicted.contradictions]

    assert kept == [("FAIL_FINALLY", "COMPLETED", "e-2")]


def test_an_event_that_belongs_to_no_step_is_unmatched_whenever_it_comes(under_way: Fulfilment) -> None:
    received = [receive(under_way, "step.completed", "e-9", NOBODYS_STEP) for _ in range(2)]

    assert [each.processed_status for each in received] == [ProcessedStatus.UNMATCHED] * 2


def test_an_event_that_belongs_to_no_step_opens_one_case_of_no_order(under_way: Fulfilment) -> None:
    for _ in range(2):
        receive(under_way, "step.completed", "e-9", NOBODYS_STEP)

    assert cases_of_the_tenant(under_way) == [("UNSOLICITED_CALLBACK", None)]


def cases_of_the_tenant(work: Fulfilment) -> list[tuple[str, UUID | None]]:
    with work.offers.uow() as uow:
        rows = uow.connection.execute(table_of(FalloutCase).select().filter_by(tenant_id=work.offers.tenant_id)).all()
    return [(row.type, row.order_id) for row in rows]
