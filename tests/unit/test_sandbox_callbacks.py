"""Callbacks of the sandbox provider are signed and repeated until they are received; on request they are late, double or lost."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest

from tests.support.sandbox import ASYNCHRONOUS, KEY, SECRET, Clock, Receiver
from workers.providers.signatures import verify
from workers.sandbox.callbacks import CallbackEvent, Courier, say
from workers.sandbox.faults import FaultKind, Faults
from workers.sandbox.ledger import Ledger
from workers.sandbox.store import Store


def test_a_callback_is_signed_and_sent_when_the_request_is_completed(
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


def test_a_callback_that_is_not_received_waits_longer_each_time(
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


def test_a_lost_callback_is_never_sent_although_the_request_is_completed(
    ledger: Ledger, faults: Faults, courier: Courier, clock: Clock
) -> None:
    faults.add(FaultKind.LOSE_CALLBACK)
    ledger.receive(KEY, ASYNCHRONOUS)
    clock.now += 3600

    assert courier.run_once() == 0
    found = ledger.find(KEY)
    assert found is not None
    assert found["status"] == "COMPLETED"


def test_a_delayed_callback_is_sent_after_its_delay_although_the_request_is_completed_before(
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


def test_a_callback_that_cannot_be_sent_keeps_no_other_waiting(
    store: Store, ledger: Ledger, courier: Courier, receiver: Receiver, clock: Clock
) -> None:
    poison = CallbackEvent(
        event_id="évènement", event_type="step.completed", step_ref="s", request_id="r", external_ref=None, occurred_at="now"
    )
    ledger.receive(KEY, ASYNCHRONOUS)
    with store.transaction() as connection:
        say(connection, poison, KEY, clock.now - 1)
    clock.now += 0.3

    assert courier.run_once() == 2

    assert json.loads(receiver.next().body)["stepRef"] == ASYNCHRONOUS.step_ref
