"""A called process that somebody deletes: its caller waits for ever, so the process at the root counts as lost, and a person restarts it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reconciliation.called import Called
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.reconciling import actions
from tests.support.watched import FIRST, SECOND, Watched
from workers.runtime.engine_history import EngineInstance

STEP, CALLER = "step:of this order", "the caller"


def gone(watched: Watched, root: str = FIRST, caller: str | None = CALLER) -> EngineInstance:
    one = replace(watched.instance("the called one", "EXTERNALLY_TERMINATED"), business_key=STEP)
    return replace(one, caller_id=caller, root_id=root)


def look(watched: Watched, *ended: EngineInstance, caller_is: str = "ACTIVE", dry_run: bool = False) -> int:
    """Look for callers of deleted instances, by an engine that says this of each caller."""
    watched.engine.ended_from_outside.return_value = list(ended)
    watched.engine.instances_by_id.side_effect = lambda ids: {id_: watched.instance(id_, caller_is) for id_ in ids}
    database = acting(watched.offers.engine, "reconcile")
    return Called(database, watched.engine, Repairs(database, dry_run=dry_run)).sweep()


def test_a_process_that_waits_for_a_deleted_one_is_lost_and_has_one_case(watched: Watched) -> None:
    assert [look(watched, gone(watched)), look(watched, gone(watched))] == [1, 0]

    assert watched.correlation.status == "LOST"
    assert (watched.case().evidence["called"], watched.case().evidence["trouble"]) == (STEP, "INSTANCE_LOST")
    assert STEP in watched.case().detail
    assert actions(watched.offers) == ["lost"]


def test_a_retry_of_that_case_starts_the_process_at_the_root_again(watched: Watched) -> None:
    look(watched, gone(watched))

    watched.resolve()

    assert watched.correlation.status == "REQUESTED"
    assert look(watched, gone(watched)) == 0


@pytest.mark.parametrize("state", ["COMPLETED", "EXTERNALLY_TERMINATED"])
def test_a_deleted_process_whose_caller_has_ended_too_is_missed_by_nobody(watched: Watched, state: str) -> None:
    assert look(watched, gone(watched), caller_is=state) == 0


def test_a_deleted_process_that_nobody_had_called_is_not_looked_at_here(watched: Watched) -> None:
    assert look(watched, gone(watched, caller=None)) == 0


def test_a_deleted_process_of_an_instance_that_does_not_count_is_left_alone(watched: Watched) -> None:
    assert look(watched, gone(watched, root=SECOND)) == 0


def test_of_several_deleted_processes_the_one_whose_caller_waits_counts(watched: Watched) -> None:
    ended = replace(gone(watched), caller_id="ended")
    watched.engine.ended_from_outside.return_value = [gone(watched), ended]
    states = {CALLER: "ACTIVE", "ended": "COMPLETED"}
    watched.engine.instances_by_id.side_effect = lambda ids: {id_: watched.instance(id_, states[id_]) for id_ in ids}
    database = acting(watched.offers.engine, "reconcile")

    assert Called(database, watched.engine, Repairs(database, dry_run=False)).sweep() == 1


def test_a_dry_run_only_says_what_it_would_do(watched: Watched) -> None:
    look(watched, gone(watched), dry_run=True)

    assert (watched.correlation.status, watched.cases()) == ("STARTED", [])
