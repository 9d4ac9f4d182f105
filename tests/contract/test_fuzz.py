"""What nobody would send, from two tenants and every role: no fault of ours, no answer that the OpenAPI document does not promise, and
nothing of one tenant in an answer to the other.

People walk quotes to their end with the ids and versions that they were answered, send in between whatever schemathesis makes of the
document, repeat commands, and try one tenant's ids with the other one's tokens. On a real PostgreSQL and through a real uvicorn: what a
client meets is also how h11 reads a header and what the threads of the edge do to each other.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.evidence import record
from tests.support.fuzzing import Desk, Tally
from tests.support.http import serving
from tests.support.offers import Offers
from tests.support.people import MadeUp, Scenario
from workers.http.limits import Limits

ENOUGH = 10_000
MOVES = 60


@pytest.fixture
def desk(offers: Offers) -> Iterator[Desk]:
    with serving(offers.engine, offers.tenant_id, Limits(rate=10**6, burst=10**6)) as api:
        desk = Desk(str(api.client.base_url))
        yield desk
        desk.close()


def say(tally: Tally, operations: int) -> None:
    print(f"statuses {dict(sorted(tally.statuses.items()))}")  # noqa: T201 - for whoever runs it
    print(f"codes {dict(tally.codes.most_common())}")  # noqa: T201
    print(f"succeeded {dict(tally.succeeded.most_common())}")  # noqa: T201
    print(f"{len(tally.operations)} of {operations} operations, {tally.trespasses} requests for what another tenant has")  # noqa: T201


def test_some_hundred_requests_find_no_fault(desk: Desk, offers: Offers) -> None:
    Scenario(desk, offers.engine, MadeUp(), seed=1).play(2 * MOVES)

    say(desk.tally, len(desk.operations))
    assert not desk.tally.faults, desk.tally.faults[0]
    assert desk.tally.trespasses > MOVES // 2


@pytest.mark.fuzz
@pytest.mark.timeout(3600)
def test_ten_thousand_requests_find_no_fault(desk: Desk, offers: Offers) -> None:
    made_up, tally, started, number = MadeUp(), desk.tally, time.monotonic(), 0

    while tally.requests < ENOUGH:
        number += 1
        Scenario(desk, offers.engine, made_up, seed=number).play(MOVES)
        so_far = f"{tally.requests} requests, {dict(sorted(tally.statuses.items()))}, {len(tally.faults)} faults"
        print(f"scenario {number}: {so_far}", flush=True)  # noqa: T201 - minutes pass

    say(tally, len(desk.operations))
    assert not tally.faults, "\n\n".join(tally.faults)
    assert set(tally.operations) == set(desk.operations)
    seconds = time.monotonic() - started
    record("fuzz: requests without a fault", tally.requests, "requests", f"{len(tally.operations)} operations, {seconds:.0f} s")
    record("fuzz: requests for what another tenant has, none answered", tally.trespasses, "requests")
    for status, count in sorted(tally.statuses.items()):
        record(f"fuzz: answered {status}", count, "answers")
