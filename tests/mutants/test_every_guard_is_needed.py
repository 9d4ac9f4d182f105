"""Every guard of the registry is needed: its story is refused by this guard alone, and ends otherwise without it.

The completeness test fails for a guard without a story.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

import pytest

from tests.mutants import stories
from tests.mutants.layers import GUARDS
from tests.mutants.telling import STORIES, show_that_it_is_needed
from tests.mutants.trial import Trial
from tests.support.evidence import record

# A story registers when its module is imported.
LOADED = [import_module(f"{stories.__name__}.{module.name}") for module in iter_modules(stories.__path__)]


def test_every_guard_has_a_story() -> None:
    assert set(GUARDS) <= set(STORIES)


@pytest.mark.parametrize("guard", sorted(GUARDS))
def test_only_the_guard_refuses_its_story(guard: str, trial: Trial) -> None:
    show_that_it_is_needed(guard, STORIES[guard], trial)


def test_the_number_of_guards_is_evidence() -> None:
    record("guards with a mutant killed", len(GUARDS), "guards")
