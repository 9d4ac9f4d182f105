"""The table of rights is complete, and its page is current."""

from __future__ import annotations

import pytest

from domain import rights as declared
from domain.rights import PROCESSES, rights
from domain.schema import METADATA
from tests.support.rights_page import PAGE, page
from workers import suite


def test_the_page_of_rights_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make rights`"


def test_every_table_stands_in_the_table_of_rights() -> None:
    """The audit reads every table, so a new table that has no line is missed here."""
    assert {right.name for right in rights() if right.process == "audit"} == set(METADATA.tables)


def test_every_process_has_rights_and_the_audit_only_reads() -> None:
    assert set(suite.PROCESSES) == set(PROCESSES) - {"audit"} == {right.process for right in rights()} - {"audit"}
    assert {right.privilege for right in rights() if right.process == "audit"} == {"SELECT"}


def test_a_line_that_is_too_short_is_no_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that is left out would move every right behind it to another process."""
    monkeypatch.setattr(declared, "_TABLES", "http tasks\nquote S")

    with pytest.raises(ValueError, match="shorter"):
        rights()
