"""Pages that people read first: what they name is there, and a line fits a screen."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_LINE = 140
FIRST_READ = ("README.md", "docs/first-quote.md")
# An inline link or image, or the definition of a reference.
TARGETS = re.compile(r"\]\(([^)#\s]+)[^)]*\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
REFERENCES = re.compile(r"\[([^\]]+)\](?![(:\]])")
DEFINITIONS = re.compile(r"^\[([^\]]+)\]: ", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", FIRST_READ)
def test_a_line_fits_a_screen(page: str) -> None:
    assert [line for line in text_of(page).splitlines() if len(line) > LONGEST_LINE] == []


@pytest.mark.parametrize("page", FIRST_READ)
def test_every_file_that_a_page_links_is_there(page: str) -> None:
    targets = [inline or defined for inline, defined in TARGETS.findall(text_of(page))]
    local = [target for target in targets if "://" not in target]

    assert local
    assert [target for target in local if not ((ROOT / page).parent / target).exists()] == []


@pytest.mark.parametrize("page", FIRST_READ)
def test_every_reference_of_a_page_is_defined(page: str) -> None:
    prose = DEFINITIONS.sub("", CODE.sub("", re.sub(r"\[`", "[", text_of(page).replace("`]", "]"))))

    assert set(REFERENCES.findall(prose)) <= set(DEFINITIONS.findall(text_of(page)))
