"""Texts for Tasklist's forms, which render Markdown.

The engine keeps 4,000 characters of a text, so a longer table ends with the number of rows that are left out. Everything that a person
typed goes through `plain` before it reaches a form: form-js makes links of addresses, loads pictures, and takes line breaks, headings and
tables from the value of a variable as from the form itself. A list column of Tasklist shows text as it is: it gets `one_line`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from domain.texts import on_one_line
from workers.runtime.variables import MAX_STRING

LONGEST_NOTICE = 1000  # characters
LONGEST_PROSE = 2000  # characters, as over HTTP
SHOWN_COMMENT = 200  # characters; enough to recognise a comment, which is on record in full
# Every character with a meaning in Markdown, in HTML (`&`), in a bare address (`.`, `:`, `@`), or below a line that it makes a heading (`=`).
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+!|~=&.:@-])")


def moment(time: datetime) -> str:
    """A time in the form that people read."""
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def one_line(text: str, longest: int = SHOWN_COMMENT) -> str:
    """Text that a person typed, on one line, without unseen characters, and cut."""
    shown = on_one_line(text)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def plain(text: str, longest: int = SHOWN_COMMENT) -> str:
    """Text that a person typed, as by `one_line`, without a meaning in Markdown. It may become twice as long as `longest`."""
    return _MARKDOWN.sub(r"\\\1", one_line(text, longest))


def notice(why: str | None) -> str | None:
    """Why the last answer was refused, as the next form says it."""
    return None if why is None else plain(why, LONGEST_NOTICE)


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
