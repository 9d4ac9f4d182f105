"""docs/fallout.md tells case workers what the code does: every type of case, every resolution, from whom and with what."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.delivery.resolving import RULES, Rule
from domain.fallout.triaging import BY_TYPE

PAGE = Path(__file__).parents[2] / "docs" / "fallout.md"


def table(title: str) -> dict[str, list[str]]:
    """The rows of the table of a section, by their first cell."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    return {name: cells for name, *cells in rows[2:]}


def needs(rule: Rule) -> list[str]:
    wanted = {
        "evidence": rule.needs_evidence,
        "changes": rule.needs_changes,
        "reference": rule.needs_reference,
        "second person": rule.needs_reference,
    }
    return [name for name, is_needed in wanted.items() if is_needed] or ["–"]


def test_every_type_of_case_stands_there_with_its_severity_and_first_queue() -> None:
    assert {name: cells[:2] for name, cells in table("Types of case").items()} == {
        str(kind): [str(severity), str(queue)] for kind, (severity, queue) in BY_TYPE.items()
    }


def test_every_resolution_stands_there() -> None:
    assert set(table("Resolutions")) == {str(resolution) for resolution in RULES}


@pytest.mark.parametrize("resolution", RULES)
def test_a_resolution_names_who_may_choose_it_and_what_it_needs(resolution: str) -> None:
    rule = RULES[resolution]  # type: ignore[index]  # its keys are texts, too

    assert table("Resolutions")[resolution][:2] == [str(rule.role), ", ".join(needs(rule))]
