"""Unusual requests from two tenants and every role cause no server error, and no answer that the OpenAPI document does not allow.

No answer to one tenant contains data of the other.

People carry quotes to their end with the ids and versions from earlier answers. In between they send the requests that schemathesis makes
from the document, repeat commands, and try the ids of one tenant with tokens of the other. PostgreSQL and uvicorn are real, because the
way in which h11 reads headers and the threads of the edge are part of what a client meets.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from domain.errors import NotFound
from domain.offers import withdrawing
from tests.support.evidence import record
from tests.support.fuzzing import Desk, Tally
from tests.support.http import Api, serving
from tests.support.made_up import MadeUp
from tests.support.offers import Offers
from tests.support.people import Scenario
from workers.http import calls, execution
from workers.http.auth import Role
from workers.http.limits import Limits
from workers.http.shapes import buyer_answers

ENOUGH = 10_000
MOVES = 60


CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
)


@pytest.fixture
def edge_without_haste(offers: Offers) -> Iterator[Api]:
    with serving(offers.engine, offers.tenant_id, Limits(rate=10**6, burst=10**6)) as api:
        yield api


@pytest.fixture
def desk(edge_without_haste: Api) -> Iterator[Desk]:
    desk = Desk(str(edge_without_haste.client.base_url))
    yield desk
    desk.close()


def say(tally: Tally, operations: int) -> None:
    print(f"statuses {dict(sorted(tally.statuses.items()))}")  # noqa: T201 - for the person who runs it
    print(f"codes {dict(tally.codes.most_common())}")  # noqa: T201
    print(f"succeeded {dict(tally.succeeded.most_common())}")  # noqa: T201
    print(f"{len(tally.operations)} of {operations} operations, {tally.trespasses} requests for what another tenant has")  # noqa: T201


def test_some_hundred_requests_find_no_fault(desk: Desk, offers: Offers) -> None:
    Scenario(desk, offers.engine, MadeUp(), seed=1).play(100)

    say(desk.tally, len(desk.operations))
    assert not desk.tally.faults, desk.tally.faults[0]
    assert desk.tally.trespasses >= 20


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


def broken(*_: object, **__: object) -> None:
    raise KeyError


PLANTED: dict[str, tuple[object, str, object]] = {
    "another customer's": (calls, "must_own", lambda *_: None),
    "a member that buyers must not see": (buyer_answers.Offered, "of", classmethod(lambda _, body: body)),
    "another answer than the stored one": (execution, "once", lambda *_: None),
    "told a stranger": (NotFound, "code", "SOMEBODY_HAS_IT"),
    "INTERNAL_ERROR": (withdrawing, "recall", broken),
}
"""A part of the report of a fault -> the place where the fault is planted, and the value planted there."""


@pytest.mark.fuzz
@pytest.mark.timeout(600)
@pytest.mark.parametrize("report", PLANTED)
def test_a_fault_that_is_planted_is_found(desk: Desk, offers: Offers, monkeypatch: pytest.MonkeyPatch, report: str) -> None:
    place, name, instead = PLANTED[report]
    monkeypatch.setattr(place, name, instead)

    for number in range(1, 7):
        with structlog.testing.capture_logs():  # without this, structlog formats each traceback for people, which takes seconds
            Scenario(desk, offers.engine, MadeUp(), seed=number).play(MOVES)
        if any(report in fault for fault in desk.tally.faults):
            return

    pytest.fail(f"{desk.tally.requests} requests did not find it; {desk.tally.faults[:1]}")


@pytest.mark.fuzz
@pytest.mark.timeout(1200)
def test_every_example_boundary_and_link_of_the_document_holds(edge_without_haste: Api) -> None:
    """Schemathesis itself sends examples and values at and past each bound, and follows links, with every check that fits."""
    address, token = str(edge_without_haste.client.base_url), edge_without_haste.caller("zed", *Role).token
    program = [str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIGURATION), "run"]
    options = ["--phases", "examples,coverage,stateful", "--checks", ",".join(CHECKS), "--max-examples", "30", "--seed", "1"]
    quiet = ["--no-color", "--generation-database", "none"]

    ran = subprocess.run(
        [*program, f"{address}/openapi.json", *options, *quiet, "--header", f"Authorization: Bearer {token}"],
        capture_output=True,
        text=True,
        check=False,
    )

    print(ran.stdout)  # noqa: T201 - for the person who runs it
    assert ran.returncode == 0, ran.stdout + ran.stderr
    [passed] = re.findall(r"(\d+) passed, \d+ skipped\n", ran.stdout)
    record("fuzz: examples, boundaries and links that hold", int(passed), "test cases")
