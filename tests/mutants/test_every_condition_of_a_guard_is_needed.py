"""Each condition of a guard that has several is needed: a story ends otherwise without it."""

from __future__ import annotations

import pytest

from domain.fallout.casework import QueueNotYours, ResolutionNeedsAuthority
from tests.mutants.conditions import NAMED, ON, REACHING, columns_of
from tests.mutants.stories import accepting_conditions, approving, assessing, case_authority, delivery_conditions, limits, resolving
from tests.mutants.telling import STORIES, show_that_it_is_needed
from tests.mutants.trial import Trial
from tests.support.evidence import record

LOADED = (accepting_conditions, approving, assessing, case_authority, delivery_conditions, limits, resolving)
CONDITIONS = sorted(layer for layer in STORIES if ON in layer)


def shared(guard: str) -> str:
    """The three decisions share their guards, and so do all commands of case workers."""
    move, code = guard.split("/")
    if code in {QueueNotYours.code, ResolutionNeedsAuthority.code}:
        return f"fallout_case.*/{code}"
    return f"approval_requirement.*/{code}" if move.rpartition(".")[2] in {"approve", "reject", "rework"} else guard


def test_every_condition_of_a_guard_that_has_several_has_a_story() -> None:
    several = {}
    for name in NAMED:
        columns = columns_of(name)
        if len(columns) > 1:
            several[shared(name)] = columns

    assert REACHING in several
    assert {f"{guard}{ON}{column}" for guard, columns in several.items() for column in columns} == set(CONDITIONS)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_only_the_condition_refuses_its_story(condition: str, trial: Trial) -> None:
    show_that_it_is_needed(condition, STORIES[condition], trial)


def test_the_number_of_conditions_is_evidence() -> None:
    record("conditions of guards with a mutant killed", len(CONDITIONS), "conditions")
