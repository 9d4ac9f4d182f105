"""A story that does not need its layer fails."""

from __future__ import annotations

import pytest

from tests.mutants.stories.commands import accept, edit, submit, withdraw
from tests.mutants.telling import Story, Tell, show_that_it_is_needed
from tests.mutants.trial import Trial

LAYER = "quote.cancel/STALE_REVISION"


def nothing_wrong(trial: Trial) -> None:
    edit(trial, trial.draft_quote())


def refused_elsewhere(trial: Trial) -> None:
    submit(trial, trial.draft_quote())


def masked(trial: Trial) -> None:
    offer = trial.approved_quote()
    accept(trial, offer)
    withdraw("cancel", trial, offer, expected_version=offer.version + 1, revision_id=trial.draft_quote().revision_id)


@pytest.mark.parametrize(
    ("tell", "complaint"),
    [
        pytest.param(nothing_wrong, "did not refuse it", id="a story that the layer does not refuse"),
        pytest.param(refused_elsewhere, "should refuse it", id="a story that another layer refuses"),
        pytest.param(masked, "another layer refuses it", id="a story that another layer would refuse as well"),
    ],
)
def test_a_story_that_does_not_need_its_layer_fails(tell: Tell, complaint: str, trial: Trial) -> None:
    with pytest.raises(AssertionError, match=complaint):
        show_that_it_is_needed(LAYER, Story(tell=tell), trial)


def test_a_story_that_names_a_layer_which_masks_nothing_fails(trial: Trial) -> None:
    story = Story(tell=masked, masked_by=("the state in quote.cancel", "uq_quote_revision_accepted"))

    with pytest.raises(AssertionError, match="uq_quote_revision_accepted did not refuse it"):
        show_that_it_is_needed(LAYER, story, trial)
