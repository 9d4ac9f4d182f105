"""The sandbox provider cancels requests that are under way and undoes effects: each effect is taken back at most once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from workers.providers.http_provider import HttpProvider
from workers.providers.port import CancelRequest, ReplyStatus
from workers.providers.signatures import new_secret
from workers.sandbox.cancellations import RequestUnknownError
from workers.sandbox.faults import FaultKind, Faults
from workers.sandbox.ledger import Ledger, ServiceRequest
from workers.sandbox.provider import SandboxProvider
from workers.sandbox.store import Store

KEY, CANCEL, UNDO = "fulfillment:1:EXECUTE", "fulfillment:1:CANCEL", "fulfillment:2:EXECUTE"
SYNCHRONOUS = ServiceRequest(
    step_ref="step:t:1", step_code="RESERVE_INVENTORY", product_offering_id="router", quantity=1, order_ref="order:t:1"
)
ASYNCHRONOUS = replace(SYNCHRONOUS, step_code="SHIP_ROUTER")


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Provider:
    ledger: Ledger
    faults: Faults
    clock: Clock
    store: Store

    def net(self, key: str = KEY) -> object:
        return next(entry["net"] for entry in self.ledger.entries() if entry["idempotencyKey"] == key)

    def callbacks(self) -> list[str]:
        with self.store.transaction() as connection:
            return [row["state"] for row in connection.execute("SELECT state FROM callback")]


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    clock, store = Clock(), Store(tmp_path / "ledger")
    yield Provider(Ledger(store, callback_latency=timedelta(seconds=1), clock=clock), Faults(store), clock, store)
    store.close()


def test_a_request_under_way_is_cancelled_and_sends_no_callback_any_more(provider: Provider) -> None:
    provider.ledger.receive(KEY, ASYNCHRONOUS)

    answer = provider.ledger.cancel(CANCEL, KEY)

    assert (answer["status"], provider.net(), provider.callbacks()) == ("COMPLETED", 0, ["LOST"])
    assert (provider.ledger.find(KEY) or {})["status"] == "CANCELLED"


def test_a_completed_request_is_not_cancelled(provider: Provider) -> None:
    provider.ledger.receive(KEY, ASYNCHRONOUS)
    provider.clock.now += 2

    assert provider.ledger.cancel(CANCEL, KEY)["status"] == "REJECTED"
    assert provider.net() == 1


def test_a_cancellation_is_decided_once(provider: Provider) -> None:
    provider.ledger.receive(KEY, ASYNCHRONOUS)
    first = provider.ledger.cancel(CANCEL, KEY)
    provider.clock.now += 2

    assert provider.ledger.cancel(CANCEL, KEY) == first == provider.ledger.find(CANCEL)


def test_the_cancellation_of_a_request_that_never_arrived_is_not_recorded(provider: Provider) -> None:
    with pytest.raises(RequestUnknownError):
        provider.ledger.cancel(CANCEL, KEY)

    provider.ledger.receive(KEY, ASYNCHRONOUS)
    assert provider.ledger.find(CANCEL) is None
    assert provider.ledger.cancel(CANCEL, KEY)["status"] == "COMPLETED"


def test_the_sandbox_refuses_a_cancellation_in_time_when_it_is_told_to(provider: Provider) -> None:
    provider.faults.add(FaultKind.REFUSE_CANCEL)
    provider.ledger.receive(KEY, ASYNCHRONOUS)

    assert provider.ledger.cancel(CANCEL, KEY)["status"] == "REJECTED"
    assert (provider.net(), provider.callbacks()) == (1, ["PENDING"])


def test_the_sandbox_takes_a_completed_effect_back_when_it_is_told_to(provider: Provider) -> None:
    provider.faults.add(FaultKind.TAKE_BACK)
    provider.ledger.receive(KEY, SYNCHRONOUS)

    assert provider.ledger.cancel(CANCEL, KEY)["status"] == "COMPLETED"
    assert provider.net() == 0


def test_an_undo_takes_the_effect_back_once(provider: Provider) -> None:
    provider.ledger.receive(KEY, SYNCHRONOUS)
    undo = replace(SYNCHRONOUS, step_ref="step:t:2", compensates=KEY)

    first = provider.ledger.receive(UNDO, undo)
    provider.ledger.receive(UNDO, undo)
    second = provider.ledger.receive("another", undo)

    assert (first.status_code, second.status_code, provider.net()) == (200, 422, 0)


def test_the_undo_of_a_request_without_effect_changes_nothing(provider: Provider) -> None:
    answer = provider.ledger.receive(UNDO, replace(SYNCHRONOUS, compensates=KEY))

    assert (answer.status_code, answer.body["reason"]) == (422, "there is nothing to undo")


def test_a_refused_undo_keeps_the_effect(provider: Provider) -> None:
    provider.ledger.receive(KEY, SYNCHRONOUS)
    provider.faults.add(FaultKind.REJECT)

    answer = provider.ledger.receive(UNDO, replace(SYNCHRONOUS, compensates=KEY))

    assert (answer.status_code, provider.net()) == (422, 1)


def test_the_client_distinguishes_cancelled_too_late_and_never_seen(tmp_path: Path) -> None:
    sandbox = SandboxProvider(tmp_path, "http://127.0.0.1:9/callbacks/sandbox", new_secret(), callback_latency=timedelta(minutes=1))
    cancellation = CancelRequest(idempotency_key=CANCEL, request_key=KEY, step_ref="step:t:1")
    with sandbox, HttpProvider(sandbox.url, "any") as port:
        assert port.cancel(cancellation) is None
        sandbox.ledger.receive(KEY, ASYNCHRONOUS)
        in_time = port.cancel(cancellation)
        sandbox.ledger.receive(UNDO, SYNCHRONOUS)
        too_late = port.cancel(replace(cancellation, idempotency_key="another", request_key=UNDO))

    assert in_time is not None
    assert in_time.status is ReplyStatus.COMPLETED
    assert too_late is not None
    assert (too_late.status, too_late.reason) == (ReplyStatus.REJECTED, "too late: the request is completed")
