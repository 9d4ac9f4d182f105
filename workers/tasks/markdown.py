"""Texts for Tasklist's forms, which render Markdown.

The engine keeps 4,000 characters of a text, so a longer table ends with the number of rows that are left out. Text that people typed is
escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from workers.runtime.variables import MAX_STRING

SHOWN_COMMENT = 200  # characters; enough to recognise a comment, which is on record in full
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~-])")


def moment(time: datetime) -> str:
    """A time in the form that people read."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def plain(text: str, longest: int = SHOWN_COMMENT) -> str:
    """Text that a person typed, on one line and without a meaning in Markdown."""
    line = " ".join(text.split())
    return _MARKDOWN.sub(r"\\\1", line if len(line) <= longest else f"{line[: longest - 1]}…")


def table(head: str, rows: Sequence[str]) -> str:
    """A table below its head, with as many rows as fit."""
    room = MAX_STRING - len(head) - len(_left_out(len(rows)))
    for count, row in enumerate(rows):
        room -= len(row) + 1
        if room < 0:
            return head + "\n".join(rows[:count]) + _left_out(len(rows) - count)
    return head + "\n".join(rows)


def _left_out(rows: int) -> str:
    return f"\n\n… and {rows} more"
