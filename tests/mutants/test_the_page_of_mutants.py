"""The page that lists the mutants is as the stories are: `make mutants` writes it."""

from __future__ import annotations

from tests.mutants.table import PAGE, mutants, page
from tests.support.evidence import record


def test_the_page_lists_what_is_told() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_number_of_mutants_is_evidence() -> None:
    record("mutants killed", len(list(mutants())), "mutants")
