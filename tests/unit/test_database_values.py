"""Reading a value of the database never fails, whatever SQL by hand has stored."""

from __future__ import annotations

import pytest

from domain.store import as_json
from domain.store.base import UnreadableJson
from tests.support.unfit import nested
from workers.runtime.database_values import json_of


def test_a_document_is_read_as_it_is() -> None:
    assert json_of(b'{"a": [1, 2.5, "b", null, 9223372036854775807]}') == {"a": [1, 2.5, "b", None, 2**63 - 1]}


def test_a_whole_number_beyond_64_bits_is_a_float() -> None:
    assert json_of(b'{"a": 100000000000000000000, "b": -9223372036854775809}') == {"a": 1e20, "b": -(2.0**63)}


@pytest.mark.parametrize("document", ["9" * 5000, nested(100_000), "{"], ids=["digits", "levels", "no JSON"])
def test_a_document_that_cannot_be_read_says_so_when_it_is_shown(document: str) -> None:
    found = json_of(document)

    assert isinstance(found, UnreadableJson)
    assert as_json({"evidence": found}) == {"evidence": {"unreadable": found.reason}}


def test_whoever_uses_a_document_that_cannot_be_read_fails() -> None:
    with pytest.raises(AttributeError):
        json_of("{").items()
