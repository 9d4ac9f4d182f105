"""The parts of the sandbox provider for tests: its ledger, its faults, its courier, and a receiver of callbacks."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import Reply, Request, answering
from workers.providers.signatures import new_secret
from workers.sandbox.callbacks import Courier
from workers.sandbox.faults import Faults
from workers.sandbox.ledger import Ledger, ServiceRequest
from workers.sandbox.provider import LEDGER_FILE, SandboxProvider
from workers.sandbox.store import Store

KEY = "fulfillment:a3f1:EXECUTE"
SECRET = new_secret()
SYNCHRONOUS = ServiceRequest(
    step_ref="step:t1:a3f1", step_code="ACTIVATE_BILLING", product_offering_id="fiber-1000", quantity=1, order_ref="order:t1:o1"
)
ASYNCHRONOUS = replace(SYNCHRONOUS, step_code="SHIP_ROUTER")
ROOT = Path(__file__).parents[2]
BEARER = {"Authorization": "Bearer any"}


def environment(data_dir: Path) -> dict[str, str]:
    return {"Q2O_CALLBACK_SECRET": SECRET, "Q2O_DATA_DIR": str(data_dir), "PYTHONPATH": str(ROOT)}


@dataclass(kw_only=True)
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(kw_only=True)
class Delivery:
    headers: Mapping[str, str]
    body: bytes


@dataclass(kw_only=True)
class Receiver:
    """The receiving end of callbacks; responds with the statuses in `answers`, then with 200."""

    url: str = ""
    deliveries: queue.Queue[Delivery] = field(default_factory=queue.Queue)
    answers: queue.Queue[int] = field(default_factory=queue.Queue)

    def next(self) -> Delivery:
        return self.deliveries.get(timeout=20)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    def take(request: Request) -> Reply:
        receiver.deliveries.put(Delivery(headers=request.headers, body=request.body))
        return Reply(status=200 if receiver.answers.empty() else receiver.answers.get())

    with answering(take) as address:
        receiver.url = f"{address}/callbacks/sandbox"
        yield receiver


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / LEDGER_FILE)) as store:
        yield store


@pytest.fixture
def faults(store: Store) -> Faults:
    return Faults(store)


@pytest.fixture
def ledger(store: Store, clock: Clock) -> Ledger:
    return Ledger(store, clock=clock)


@pytest.fixture
def courier(store: Store, clock: Clock, receiver: Receiver) -> Iterator[Courier]:
    with closing(Courier(store, receiver.url, SECRET, clock=clock)) as courier:
        yield courier


@pytest.fixture
def provider(tmp_path: Path, receiver: Receiver) -> Iterator[SandboxProvider]:
    with SandboxProvider(tmp_path, receiver.url, SECRET, callback_latency=timedelta(0)) as provider:
        yield provider


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def wire(request: ServiceRequest) -> dict[str, str | int]:
    return {
        "stepRef": request.step_ref,
        "stepCode": request.step_code,
        "productOfferingId": request.product_offering_id,
        "quantity": request.quantity,
        "orderRef": request.order_ref,
    }
