"""Stories: exactly one layer refuses each of them, and without this layer it ends otherwise.

A story names the other layers that would refuse it as well: in `behind` those that refuse first, in `masked_by` those that refuse next, in
their order. Without all of them the story runs to its end, and that is the harm that they prevent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.mutants.layers import is_refusal_of, off
from tests.mutants.trial import Trial

Tell = Callable[[Any], object]  # a Trial, or the PopulatedTenant that is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A story that a layer refuses; or, when `is_right`, one that it must let pass."""

    tell: Tell
    is_right: bool = False
    behind: tuple[str, ...] = ()
    masked_by: tuple[str, ...] = ()

    @property
    def function(self) -> Any:
        return self.tell.func if isinstance(self.tell, partial) else self.tell

    @property
    def title(self) -> str:
        return str(self.function.__name__).replace("_", " ")


STORIES: dict[str, Story] = {}
"""Guard, state or constraint -> its story. The story of a constraint is a statement written by hand."""
COMMANDS: dict[str, Story] = {}
"""Constraint -> a command of the product that does harm without it, once the layers before it are removed."""


def refused_by(*layers: str, behind: tuple[str, ...] = (), masked_by: tuple[str, ...] = ()) -> Callable[[Tell], Tell]:
    """Register a story under the layers that refuse it."""

    def register(tell: Tell) -> Tell:
        for layer in layers:
            _put(STORIES, layer, Story(tell=tell, behind=behind, masked_by=masked_by))
        return tell

    return register


def allowed_by(*conditions: str) -> Callable[[Tell], Tell]:
    """Register a story under the conditions without which their guard would refuse it wrongly."""

    def register(tell: Tell) -> Tell:
        for condition in conditions:
            _put(STORIES, condition, Story(tell=tell, is_right=True))
        return tell

    return register


def kept_by(constraint: str, *, behind: tuple[str, ...] = (), masked_by: tuple[str, ...] = ()) -> Callable[[Tell], Tell]:
    """Register a command under the constraint that keeps the rule when no layer before it does."""

    def register(tell: Tell) -> Tell:
        _put(COMMANDS, constraint, Story(tell=tell, behind=behind, masked_by=masked_by))
        return tell

    return register


def _put(stories: dict[str, Story], layer: str, story: Story) -> None:
    if layer in stories:
        raise ValueError(f"{layer} has two stories")
    stories[layer] = story


def show_that_it_is_needed(layer: str, story: Story, trial: Trial) -> None:
    """Tell a layer's story with every layer, without those that refuse first, without the layer, and without those that mask it."""
    if story.is_right:
        assert ending(story.tell, trial) is None
        error = ending(story.tell, trial, layer)
        assert error is not None, f"{layer} allows too much"
        assert is_refusal_of(layer, error), repr(error)
        return
    if story.behind:
        error = ending(story.tell, trial)
        assert error is None or not is_refusal_of(layer, error), f"no layer refuses before {layer}"
    away = story.behind
    for speaker in (layer, *story.masked_by):
        error = ending(story.tell, trial, *away)
        assert error is not None, f"{speaker} did not refuse it (without {away})"
        assert is_refusal_of(speaker, error), f"{speaker} should refuse it (without {away}), but: {error!r}"
        away = (*away, speaker)
    error = ending(story.tell, trial, *away)
    assert error is None, f"another layer refuses it (without {away}): {error!r}"


def ending(tell: Tell, trial: Trial, *away: str) -> Exception | None:
    """Tell a story without these layers; returns the error that ended it, or None."""
    with off(trial.connection, *away):
        try:
            tell(trial)
        except Exception as error:  # noqa: BLE001 - the caller compares it with the refusal that the story expects
            return error
    return None
