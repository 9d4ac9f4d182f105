"""`docs/mutants.md` has the right numbers of mutants, and the list has a row for each; `make mutants` writes both."""

from __future__ import annotations

from tests.mutants.table import PAGE, mutants, page, whole_list
from tests.support.evidence import record


def test_the_page_counts_the_mutants() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


def test_the_list_has_a_whole_row_for_every_mutant() -> None:
    rows = [line for line in whole_list().splitlines() if line.startswith("|")][2:]

    assert len(rows) == len(list(mutants()))
    assert {len(row.split(" | ")) for row in rows} == {5}
    assert all(cell.strip("| ") for row in rows for cell in row.split(" | ")[:4])


def test_the_number_of_mutants_is_evidence() -> None:
    record("mutants killed", len(list(mutants())), "mutants")
