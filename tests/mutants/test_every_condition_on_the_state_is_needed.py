"""Every move's check of the state is needed: its story is refused by this check alone.

The guards of the move hold in its story.
"""

from __future__ import annotations

import pytest

from tests.mutants.layers import MOVES, elsewhere
from tests.mutants.stories import accepting, approving, authority, escalating, quoting, states_of_delivery, withdrawing
from tests.mutants.telling import STORIES, show_that_it_is_needed
from tests.mutants.trial import Trial
from tests.support.evidence import record

LOADED = (accepting, approving, authority, escalating, quoting, states_of_delivery, withdrawing)
STATES = sorted(state for state, move in MOVES.items() if elsewhere(move))


def test_every_move_has_a_story_about_its_state() -> None:
    assert set(STATES) <= set(STORIES)


@pytest.mark.parametrize("state", STATES)
def test_only_the_state_refuses_the_story(state: str, trial: Trial) -> None:
    show_that_it_is_needed(state, STORIES[state], trial)


def test_the_number_of_conditions_on_the_state_is_evidence() -> None:
    record("conditions on the state with a mutant killed", len(STATES), "moves")
