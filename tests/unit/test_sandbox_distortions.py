"""On request the sandbox sends callbacks that are early, changed, contradictory, or about no step; its ledger stays right."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import asking
from workers.providers.signatures import new_secret
from workers.sandbox.cancellations import RequestUnknownError
from workers.sandbox.faults import FaultKind, Faults
from workers.sandbox.ledger import Ledger, ServiceRequest
from workers.sandbox.provider import SandboxProvider
from workers.sandbox.store import Store

KEY, CANCEL = "fulfillment:1:EXECUTE", "fulfillment:1:CANCEL"
REQUEST = ServiceRequest(
    step_ref="step:t:1", step_code="SHIP_ROUTER", product_offering_id="router", quantity=1, order_ref="order:t:1"
)


@dataclass
class Books:
    """The ledger of the provider, at a time that the test sets."""

    store: Store
    now: float = 1_800_000_000.0

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.store, callback_latency=timedelta(seconds=1), clock=lambda: self.now)
        self.faults = Faults(self.store)

    def said(self, *, within: float = 3600) -> list[dict[str, Any]]:
        """The callbacks that are due within so many seconds, in their order."""
        query = "SELECT event_id, body FROM callback WHERE state = 'PENDING' AND due_at <= ? ORDER BY due_at, delivery_id"
        with self.store.transaction() as connection:
            rows = connection.execute(query, (self.now + within,)).fetchall()
        return [{"id": row["event_id"], **json.loads(row["body"])} for row in rows]


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    store = Store(tmp_path / "ledger")
    yield Books(store)
    store.close()


def test_a_callback_can_come_before_the_reply(books: Books) -> None:
    books.faults.add(FaultKind.EARLY_CALLBACK)
    books.ledger.receive(KEY, REQUEST)

    assert [event["eventType"] for event in books.said(within=0)] == ["step.completed"]


def test_a_callback_can_come_again_under_its_id_with_other_content(books: Books) -> None:
    books.faults.add(FaultKind.CHANGE_CALLBACK)
    books.ledger.receive(KEY, REQUEST)

    first, second = books.said()
    assert first["id"] == second["id"]
    assert first["externalRef"] != second["externalRef"]


def test_a_callback_can_be_contradicted_by_another(books: Books) -> None:
    books.faults.add(FaultKind.CONTRADICT_CALLBACK)
    books.ledger.receive(KEY, REQUEST)

    first, second = books.said()
    assert (first["eventType"], second["eventType"]) == ("step.completed", "step.rejected")
    assert first["id"] != second["id"]
    assert [entry["effects"] for entry in books.ledger.entries()] == [1]


def test_a_callback_can_be_about_an_unknown_step(books: Books) -> None:
    books.faults.add(FaultKind.MISADDRESS_CALLBACK)
    books.ledger.receive(KEY, REQUEST)

    known, unknown = (event["stepRef"] for event in books.said())
    assert known == REQUEST.step_ref
    assert (unknown.startswith("step:t:"), unknown == known) == (True, False)


@pytest.mark.parametrize(
    ("fault", "says", "ends"), [(None, "step.cancelled", "COMPLETED"), (FaultKind.REFUSE_CANCEL, "step.cancel_refused", "REJECTED")]
)
def test_a_cancellation_can_be_decided_later(books: Books, fault: FaultKind | None, says: str, ends: str) -> None:
    books.faults.add(FaultKind.CANCEL_LATER, duration=timedelta(seconds=30))
    if fault is not None:
        books.faults.add(fault)
    books.ledger.receive(KEY, REQUEST)

    assert books.ledger.cancel(CANCEL, KEY)["status"] == "ACCEPTED"
    assert books.ledger.cancel(CANCEL, KEY)["status"] == "ACCEPTED"
    assert says in [event["eventType"] for event in books.said()]
    books.now += 30

    assert (books.ledger.find(CANCEL) or {})["status"] == ends


def test_any_event_can_be_sent_by_hand_about_a_request_that_arrived(books: Books) -> None:
    books.ledger.receive(KEY, REQUEST)

    books.ledger.say(KEY, "step.rejected")

    assert [event["eventType"] for event in books.said(within=0)] == ["step.rejected"]
    assert [entry["net"] for entry in books.ledger.entries()] == [1]


def test_no_event_can_be_sent_about_a_request_that_never_arrived(books: Books) -> None:
    with pytest.raises(RequestUnknownError):
        books.ledger.say(KEY, "step.completed")


def test_over_http_an_event_is_sent_or_refused(tmp_path: Path) -> None:
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", new_secret()) as sandbox:
        sandbox.ledger.receive(KEY, REQUEST)
        address = f"{sandbox.url}/sandbox/events"
        sent = asking.post(address, json={"idempotencyKey": KEY, "eventType": "step.cancelled"})
        unknown = asking.post(address, json={"idempotencyKey": "another", "eventType": "step.cancelled"})
        unknown_event = asking.post(address, json={"idempotencyKey": KEY, "eventType": "step.dreamt"})

    assert (sent.status_code, sent.json()["eventId"][:4]) == (201, "evt-")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "REQUEST_UNKNOWN")
    assert unknown_event.status_code == 400
