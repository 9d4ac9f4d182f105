"""Texts of people cannot deceive their readers: which characters an identifier and a comment may have, and what the document says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from domain.texts import (
    DEEPEST,
    TURNING,
    UnfitJsonError,
    cleaned,
    is_identifier,
    is_prose,
    is_storable,
    json_from,
    on_one_line,
    require_fit,
)
from tests.support.unfit import UNFIT, nested
from workers.http.shapes.fields import IDENTIFIER, PROSE

# All of the basic plane but the halves of pairs, which no JSON in UTF-8 can contain.
CHARACTERS = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x10000))]
INVISIBLE = ["\0", "\x1b", "\x7f", "\x85", "\u00ad", "\u200b", "\u2028", "\u2060", "\ufeff", "\U000e0041", *TURNING]


@pytest.mark.parametrize("text", ["ACME-1001", "Zoë's café & co.", "株式会社", "a@b.example", "e\u0301", "x" * 200, "two words"])
def test_what_people_call_things_is_an_identifier(text: str) -> None:
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text", ["", " a", "a ", "\u00a0a", "a\nb", "a\tb", "x" * 201, "\ud800", *(f"a{each}b" for each in INVISIBLE)]
)
def test_a_text_with_a_hidden_part_is_no_identifier(text: str) -> None:
    assert not is_identifier(text)


@pytest.mark.parametrize("text", ["", "two\nlines\r\n\tindented", "می\u200cخواهم", "👨\u200d👩\u200d👧", " blank "])
def test_prose_has_lines_tabs_and_joiners(text: str) -> None:
    assert is_prose(text)
    assert cleaned(text) == text


@pytest.mark.parametrize("character", ["\0", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\ud800", *TURNING])
def test_prose_has_no_control_and_nothing_that_turns_its_direction(character: str) -> None:
    assert not is_prose(f"a{character}b")
    assert cleaned(f"a{character}b") == "ab"


@pytest.mark.parametrize("text", ["a\0", "\ud800", "\udfffb"])
def test_postgresql_stores_no_nul_and_no_half_of_a_pair(text: str) -> None:
    assert not is_storable(text)
    assert is_storable("😀 \x01")


@pytest.mark.parametrize(("pattern", "rule"), [(IDENTIFIER, is_identifier), (PROSE, is_prose)])
@pytest.mark.parametrize("frame", ["{}", "a{}", "{}b", "a{}b"])
def test_the_document_says_what_is_accepted(pattern: str, rule: Callable[[str], bool], frame: str) -> None:
    documented = re.compile(pattern)

    wrong = [text for text in map(frame.format, CHARACTERS) if bool(documented.fullmatch(text)) != rule(text)]

    assert wrong == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\n\n  b\u2028c", "a b c"), ("\u200b \u200b \u200b    code", "code"), ("ab\u202ecd", "abcd"), (" \x1b[31m", "[31m")],
)
def test_a_text_is_shown_on_one_line(text: str, shown: str) -> None:
    assert on_one_line(text) == shown


@pytest.mark.parametrize("document", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("frame", ["{}", "[{}]", '{{"a": [{}]}}'])
def test_a_document_that_cannot_be_stored_or_walked_through_is_refused(document: str, frame: str) -> None:
    with pytest.raises(UnfitJsonError):
        json_from(frame.format(document).encode())


@pytest.mark.parametrize("document", ["", "{", b"\xff", '"a"'.encode("utf-16"), "\ufeff1"])
def test_what_is_no_json_in_utf_8_is_refused(document: str | bytes) -> None:
    with pytest.raises(UnfitJsonError, match="not JSON"):
        json_from(document)


@pytest.mark.parametrize(
    "value", [{"a": ["\U0001f600", "\\u0000", -(2**63), 2**63 - 1, 1.5, None, True]}, "text", 7, [[]], {"written \\ud83d": 1}]
)
def test_any_other_document_is_read_as_it_was_written(value: Any) -> None:
    assert json_from(json.dumps(value)) == value


def test_as_many_levels_are_taken_as_the_limit_says() -> None:
    assert json_from(nested(DEEPEST)) is not None

    with pytest.raises(UnfitJsonError, match="50 levels"):
        json_from(nested(DEEPEST + 1))


def test_a_document_of_a_megabyte_is_looked_at_without_recursion() -> None:
    require_fit([["a" * 10_000] * 100] * 2)
