"""The sandbox provider keeps its word: one effect per key, the same answer every time, callbacks that outlast a crash."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.waiting import eventually
from workers.providers.signatures import new_secret, verify
from workers.sandbox.callbacks import Courier
from workers.sandbox.faults import FaultKind, Faults
from workers.sandbox.ledger import KeyReusedError, Ledger, ServiceRequest
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
    """The receiving end of callbacks; answers what `answers` holds, then 200."""

    url: str = ""
    deliveries: queue.Queue[Delivery] = field(default_factory=queue.Queue)
    answers: queue.Queue[int] = field(default_factory=queue.Queue)

    def next(self) -> Delivery:
        return self.deliveries.get(timeout=20)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.deliveries.put(Delivery(headers=dict(self.headers.items()), body=body))
            self.send_response(200 if receiver.answers.empty() else receiver.answers.get())
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/callbacks/sandbox"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()


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


def test_eight_simultaneous_arrivals_of_one_key_have_one_effect_and_one_answer(store: Store, tmp_path: Path) -> None:
    """Two ledgers on one file, as two processes would have it. Killed by: carrying out a request whose key was not inserted."""
    with closing(Store(tmp_path / LEDGER_FILE)) as second:
        ledgers = [Ledger(store), Ledger(second)] * 4
        answers = at_once([partial(ledger.receive, KEY, ASYNCHRONOUS) for ledger in ledgers])

    assert all(answer == answers[0] for answer in answers)
    (entry,) = Ledger(store).entries()
    assert (entry["effects"], entry["requests"]) == (1, 8)


def test_a_key_that_comes_with_another_body_is_refused_and_leaves_no_trace(ledger: Ledger) -> None:
    ledger.receive(KEY, SYNCHRONOUS)

    with pytest.raises(KeyReusedError):
        ledger.receive(KEY, replace(SYNCHRONOUS, quantity=2))
    (entry,) = ledger.entries()
    assert (entry["effects"], entry["requests"]) == (1, 1)


def test_a_key_keeps_its_first_answer_while_a_question_tells_the_present_state(ledger: Ledger, clock: Clock) -> None:
    first = ledger.receive(KEY, ASYNCHRONOUS)
    assert ledger.find(KEY) == first.body == {"requestId": first.body["requestId"], "status": "ACCEPTED"}
    clock.now += 1

    again = ledger.receive(KEY, ASYNCHRONOUS)

    assert again == first
    found = ledger.find(KEY)
    assert found is not None
    assert found["status"] == "COMPLETED"
    assert found["externalRef"].startswith("SHIP_ROUTER-")


def test_a_key_that_never_arrived_is_not_found(ledger: Ledger) -> None:
    assert ledger.find(KEY) is None


def test_a_fault_strikes_exactly_as_often_as_it_was_ordered(ledger: Ledger, faults: Faults) -> None:
    """Killed by: leaving out `remaining > 0`."""
    faults.add(FaultKind.LOSE_ANSWER, times=3)

    answers = at_once([partial(ledger.receive, f"key-{n}", SYNCHRONOUS) for n in range(8)])

    assert sum(answer.is_lost for answer in answers) == 3
    assert [fault.remaining for fault in faults.all()] == [0]


def test_a_fault_for_one_step_code_spares_the_others(ledger: Ledger, faults: Faults) -> None:
    faults.add(FaultKind.REJECT, step_code="SHIP_ROUTER")

    assert ledger.receive("key-1", SYNCHRONOUS).status_code == 200
    assert ledger.receive("key-2", ASYNCHRONOUS).status_code == 422


def test_a_repetition_uses_up_faults_of_the_answer_but_not_of_the_deed(ledger: Ledger, faults: Faults) -> None:
    ledger.receive(KEY, SYNCHRONOUS)
    faults.add(FaultKind.REJECT)
    faults.add(FaultKind.HOLD_ANSWER, duration=timedelta(seconds=3))

    answer = ledger.receive(KEY, SYNCHRONOUS)

    assert (answer.status_code, answer.pause) == (200, timedelta(seconds=3))
    assert [fault.remaining for fault in faults.all()] == [1, 0]


def test_a_rejected_request_has_no_effect_and_stays_rejected(ledger: Ledger, faults: Faults) -> None:
    faults.add(FaultKind.REJECT)

    rejected = ledger.receive(KEY, SYNCHRONOUS)

    assert rejected.body["status"] == "REJECTED"
    assert ledger.receive(KEY, SYNCHRONOUS) == rejected
    assert [entry["effects"] for entry in ledger.entries()] == [0]


def test_cleared_faults_strike_no_more(ledger: Ledger, faults: Faults) -> None:
    faults.add(FaultKind.REJECT, times=9)
    faults.clear()

    assert ledger.receive(KEY, SYNCHRONOUS).status_code == 200


def test_a_callback_is_signed_and_comes_when_the_work_is_done(
    ledger: Ledger, courier: Courier, receiver: Receiver, clock: Clock
) -> None:
    clock.now = time.time()
    answer = ledger.receive(KEY, ASYNCHRONOUS)
    assert courier.run_once() == 0
    clock.now += 0.3

    assert courier.run_once() == 1

    delivery = receiver.next()
    verify(delivery.headers, delivery.body, [SECRET])
    event = json.loads(delivery.body)
    assert event["eventId"] == delivery.headers["webhook-id"]
    assert event["eventType"] == "step.completed"
    assert (event["stepRef"], event["requestId"]) == (ASYNCHRONOUS.step_ref, answer.body["requestId"])
    assert set(event) == {"eventId", "eventType", "stepRef", "requestId", "externalRef", "occurredAt"}


@pytest.mark.parametrize("last_answer", [204, 409])
def test_a_callback_is_repeated_unchanged_until_it_is_received(
    ledger: Ledger, courier: Courier, receiver: Receiver, clock: Clock, last_answer: int
) -> None:
    for answer in (503, 400, last_answer):
        receiver.answers.put(answer)
    ledger.receive(KEY, ASYNCHRONOUS)

    tried = []
    for _ in range(6):
        clock.now += 60
        tried.append(courier.run_once())

    assert tried == [1, 1, 1, 0, 0, 0]
    sent = [receiver.next() for _ in range(3)]
    assert len({(delivery.headers["webhook-id"], delivery.body) for delivery in sent}) == 1
    assert [(entry["callbacks"], entry["callbackAttempts"]) for entry in ledger.entries()] == [(1, 3)]


def test_a_callback_that_nobody_takes_waits_longer_each_time(
    ledger: Ledger, courier: Courier, receiver: Receiver, clock: Clock
) -> None:
    for _ in range(3):
        receiver.answers.put(500)
    ledger.receive(KEY, ASYNCHRONOUS)
    clock.now += 0.3

    tried = []
    for pause in (0.0, 0.19, 0.02, 0.39, 0.02):
        clock.now += pause
        tried.append(courier.run_once())

    assert tried == [1, 0, 1, 0, 1]


def test_both_copies_of_a_duplicated_callback_carry_one_event_id(
    ledger: Ledger, faults: Faults, courier: Courier, receiver: Receiver, clock: Clock
) -> None:
    faults.add(FaultKind.DUPLICATE_CALLBACK)
    ledger.receive(KEY, ASYNCHRONOUS)
    clock.now += 1

    courier.run_once()

    first, second = receiver.next(), receiver.next()
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert [entry["callbacks"] for entry in ledger.entries()] == [2]


def test_a_lost_callback_is_never_sent_though_the_work_is_done(
    ledger: Ledger, faults: Faults, courier: Courier, clock: Clock
) -> None:
    faults.add(FaultKind.LOSE_CALLBACK)
    ledger.receive(KEY, ASYNCHRONOUS)
    clock.now += 3600

    assert courier.run_once() == 0
    found = ledger.find(KEY)
    assert found is not None
    assert found["status"] == "COMPLETED"


def test_a_delayed_callback_comes_after_its_delay_though_the_work_is_done_before(
    ledger: Ledger, faults: Faults, courier: Courier, clock: Clock
) -> None:
    faults.add(FaultKind.DELAY_CALLBACK, duration=timedelta(seconds=30))
    ledger.receive(KEY, ASYNCHRONOUS)
    clock.now += 1

    found = ledger.find(KEY)
    assert found is not None
    assert (found["status"], courier.run_once()) == ("COMPLETED", 0)
    clock.now += 30
    assert courier.run_once() == 1


def test_a_request_rejected_later_is_accepted_first_and_has_no_effect(
    ledger: Ledger, faults: Faults, courier: Courier, receiver: Receiver, clock: Clock
) -> None:
    faults.add(FaultKind.REJECT_LATER)
    assert ledger.receive(KEY, ASYNCHRONOUS).status_code == 202
    clock.now += 1

    courier.run_once()

    event = json.loads(receiver.next().body)
    assert (event["eventType"], event["externalRef"]) == ("step.rejected", None)
    assert [(entry["status"], entry["effects"]) for entry in ledger.entries()] == [("REJECTED", 0)]


def test_a_killed_provider_comes_back_with_its_ledger_and_its_pending_callbacks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers.put(503)
    command = [sys.executable, "-m", "workers", "sandbox", "--callback-url", receiver.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path), cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        answer = httpx.post(f"{url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY}).json()
        refused = receiver.next()
        process.kill()

    with SandboxProvider(tmp_path, receiver.url, SECRET) as provider:
        received = receiver.next()
        again = httpx.post(
            f"{provider.url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY}
        ).json()
        entries = httpx.get(f"{provider.url}/sandbox/ledger").json()

    assert (received.headers["webhook-id"], received.body) == (refused.headers["webhook-id"], refused.body)
    assert again == answer
    assert [(entry["effects"], entry["requests"]) for entry in entries] == [(1, 2)]


def test_the_running_provider_delivers_a_callback_by_itself(provider: SandboxProvider, receiver: Receiver) -> None:
    httpx.post(f"{provider.url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY})

    delivery = receiver.next()

    verify(delivery.headers, delivery.body, [SECRET])


@pytest.mark.parametrize(
    ("headers", "changes", "status"),
    [
        ({"Idempotency-Key": KEY}, {}, 401),
        (BEARER, {}, 400),
        ({**BEARER, "Idempotency-Key": KEY}, {"quantity": 0}, 400),
        ({**BEARER, "Idempotency-Key": KEY}, {"surprise": 1}, 400),
    ],
)
def test_a_request_that_is_not_as_agreed_is_no_rejection(
    provider: SandboxProvider, headers: dict[str, str], changes: dict[str, int], status: int
) -> None:
    """422 is the provider's word for "I will not"; it must not be said of a request that was not understood."""
    response = httpx.post(f"{provider.url}/v1/requests", json={**wire(SYNCHRONOUS), **changes}, headers=headers)

    assert response.status_code == status
    assert provider.ledger.entries() == []


def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", SECRET, token="right") as provider:
        statuses = [
            httpx.get(
                f"{provider.url}/v1/requests", params={"idempotencyKey": KEY}, headers={"Authorization": f"Bearer {token}"}
            ).status_code
            for token in ("wrong", "right")
        ]

    assert statuses == [401, 404]


def test_faults_are_ordered_listed_and_cleared_over_http(provider: SandboxProvider) -> None:
    order = {"kind": "hold_answer", "stepCode": "SHIP_ROUTER", "times": 2, "seconds": 1.5}

    ordered = httpx.post(f"{provider.url}/sandbox/faults", json=order)

    assert ordered.status_code == 201
    assert httpx.get(f"{provider.url}/sandbox/faults").json() == [{**order, "id": ordered.json()["id"], "remaining": 2}]
    assert httpx.delete(f"{provider.url}/sandbox/faults").status_code == 204
    assert httpx.get(f"{provider.url}/sandbox/faults").json() == []


def test_a_held_answer_does_not_hold_up_the_end_of_the_provider(tmp_path: Path) -> None:
    provider = SandboxProvider(tmp_path, "http://127.0.0.1:9/", SECRET)
    provider.start()
    provider.faults.add(FaultKind.HOLD_ANSWER, duration=timedelta(hours=1))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            httpx.post,
            f"{provider.url}/v1/requests",
            json=wire(SYNCHRONOUS),
            headers={**BEARER, "Idempotency-Key": KEY},
            timeout=60,
        )
        eventually(provider.ledger.entries, "the request arrives")

        provider.stop()

        assert call.result().status_code == 200


def test_the_page_loads_nothing_from_elsewhere(provider: SandboxProvider) -> None:
    response = httpx.get(f"{provider.url}/")

    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert all(f'data-kind="{kind}"' in response.text for kind in FaultKind)


def test_a_port_that_is_taken_is_told_in_one_line(provider: SandboxProvider, tmp_path: Path) -> None:
    port = provider.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "workers", "sandbox", "--callback-url", "http://127.0.0.1:9/", "--port", port]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path / "other"), cwd=ROOT)

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "choose another port" in ended.stderr
