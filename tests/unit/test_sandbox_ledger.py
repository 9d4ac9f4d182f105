"""The ledger of the sandbox provider has one effect for each key, and faults strike as often as they were ordered."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.support.sandbox import ASYNCHRONOUS, KEY, SYNCHRONOUS, Clock, at_once
from workers.sandbox.faults import FaultKind, Faults
from workers.sandbox.ledger import KeyReusedError, Ledger
from workers.sandbox.provider import LEDGER_FILE
from workers.sandbox.store import Store


def test_eight_simultaneous_arrivals_of_one_key_have_one_effect_and_one_answer(store: Store, tmp_path: Path) -> None:
    """Two ledgers on one file, as in two processes. Kills: carrying out a request whose key was not inserted."""
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


def test_a_repeat_gets_the_first_reply_while_a_query_gets_the_present_state(ledger: Ledger, clock: Clock) -> None:
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
    """Kills: leaving out `remaining > 0`."""
    faults.add(FaultKind.LOSE_ANSWER, times=3)

    answers = at_once([partial(ledger.receive, f"key-{n}", SYNCHRONOUS) for n in range(8)])

    assert sum(answer.is_lost for answer in answers) == 3
    assert [fault.remaining for fault in faults.all()] == [0]


def test_a_fault_for_one_step_code_spares_the_others(ledger: Ledger, faults: Faults) -> None:
    faults.add(FaultKind.REJECT, step_code="SHIP_ROUTER")

    assert ledger.receive("key-1", SYNCHRONOUS).status_code == 200
    assert ledger.receive("key-2", ASYNCHRONOUS).status_code == 422


def test_a_repeat_uses_up_faults_of_the_reply_but_not_of_the_effect(ledger: Ledger, faults: Faults) -> None:
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
