"""A minute of storm: faults of every kind while clients work. `make storm` runs longer, with a seed of its own."""

from __future__ import annotations

import pytest

from tests.faults.storm.faults import FAULTS
from tests.faults.storm.running import Outcome, storm
from tests.support.evidence import record
from workers.local.stack import LocalStack

pytestmark = pytest.mark.timeout(600)
SECONDS, SEED, KINDS = 60, 20261129, 15
QUIET_SECONDS = 180  # three times what `make storm` allows: other tests share the processors


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    directory = tmp_path_factory.mktemp("storm")
    # A stack of its own: the storm kills its engine, its broker and its database.
    with LocalStack(directory / "data") as stack:
        outcome = storm(
            stack, directory / "history.jsonl", seconds=SECONDS, seed=SEED, kinds=KINDS, clients=3, quiet_within=QUIET_SECONDS
        )
    record("storm in the test suite", outcome.faults.total(), "faults", f"{len(outcome.found.operations)} operations")
    return outcome


def test_clients_of_a_suite_in_a_storm_see_one_truth(outcome: Outcome) -> None:
    assert outcome.violations == []


def test_a_storm_has_faults_of_many_kinds(outcome: Outcome) -> None:
    assert len(outcome.faults) >= KINDS
    assert set(outcome.faults) <= set(FAULTS)
