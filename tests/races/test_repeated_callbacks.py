"""One callback is delivered many times at once over HTTP (T7): no deadlock, no wait beyond the limit for a lock, and a figure for the rest."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import quantiles

import pytest

from tests.support.evidence import record
from tests.support.fulfilment import Fulfilment
from tests.support.http import PROVIDER, completed
from tests.support.metrics import metric
from tests.support.races import ApiOf, NewOffers

RESERVE = "RESERVE_INVENTORY"
AT_ONCE, ROUNDS = 5, 20
COMMANDS = ("receive-callback", "evaluate-order", "housekeeping")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """What came of a hundred deliveries of twenty events, five at once."""

    answers: Sequence[int]
    deadlocks: float
    duplicates: float
    waits: float


def counted() -> tuple[float, float, float]:
    return (
        sum(metric("q2o_db_deadlocks_total", command=command) for command in COMMANDS),
        metric("q2o_callback_duplicates_total", provider=PROVIDER, hash_match="true"),
        metric("q2o_db_lock_wait_seconds_count", command="receive-callback"),
    )


@pytest.fixture(scope="module")
def delivered(new_offers: NewOffers, api_of: ApiOf) -> Delivered:
    offers = new_offers()
    api, works = api_of(offers), [Fulfilment.running(offers) for _ in range(ROUNDS)]
    for work in works:
        work.start(RESERVE)
    seconds: list[float] = []

    def deliver(event: dict[str, object]) -> int:
        since = time.perf_counter()
        answer = api.call_back(event).status_code
        seconds.append(time.perf_counter() - since)
        return answer

    before = counted()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        events = [completed(offers.tenant_id, work.step(RESERVE).id) for work in works]
        answers = [answer for event in events for answer in pool.map(deliver, [event] * AT_ONCE)]
    deadlocks, duplicates, waits = (after - known for after, known in zip(counted(), before, strict=True))
    p95 = quantiles(seconds, n=20)[-1]
    record(
        "T7: answer to a callback, 5 at once, p95", p95 * 1000, "ms", f"{min(seconds) * 1000:.1f} to {max(seconds) * 1000:.1f} ms"
    )
    sys.stdout.write(f"T7: p95 of an answer to a callback that comes five times at once: {p95 * 1000:.1f} ms\n")
    return Delivered(answers=answers, deadlocks=deadlocks, duplicates=duplicates, waits=waits)


def test_every_delivery_of_a_repeated_callback_is_answered_within_the_limit_for_a_lock(delivered: Delivered) -> None:
    """A wait beyond the limit would be answered 503."""
    assert set(delivered.answers) == {200}


def test_callbacks_that_are_delivered_at_once_end_in_no_deadlock(delivered: Delivered) -> None:
    assert delivered.deadlocks == 0


def test_each_repeat_of_a_callback_is_counted(delivered: Delivered) -> None:
    assert delivered.duplicates == ROUNDS * (AT_ONCE - 1)


def test_the_waits_of_callbacks_are_timed_under_their_command(delivered: Delivered) -> None:
    assert delivered.waits > 0
