"""Which characters a text may have: what PostgreSQL stores, and what cannot deceive whoever reads it.

The rule: an identifier is one line that is what it looks like; prose may have several lines. No text has characters that turn the direction
of the text around them (CVE-2021-42574), and no identifier has any that nobody sees (Unicode Technical Report 36).
"""

from __future__ import annotations

import unicodedata

LONGEST_IDENTIFIER = 200
LINES_AND_TABS = "\n\r\t"
TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The bidirectional controls of Unicode (UAX 9)."""
# By general category: controls, format characters, halves of surrogate pairs, separators of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_storable(text: str) -> bool:
    """Whether PostgreSQL stores a text: it has no NUL, and no half of a surrogate pair, which JSON can escape and UTF-8 cannot write."""
    return "\0" not in text and not any(unicodedata.category(character) == "Cs" for character in text)


def is_identifier(text: str) -> bool:
    """Whether a text may name something: 1 to 200 characters that can be seen, and no blank at its ends."""
    return 0 < len(text) <= LONGEST_IDENTIFIER and text == text.strip() and not any(map(_is_unseen, text))


def is_prose(text: str) -> bool:
    """Whether a text may be read by others: it may have line breaks and tabs, but no other control and nothing that turns its direction."""
    return all(map(_is_readable, text))


def cleaned(text: str) -> str:
    """A text without the characters that prose may not have."""
    return "".join(filter(_is_readable, text))


def on_one_line(text: str) -> str:
    """A text on one line, without the characters that nobody sees."""
    seen = "".join(character for character in text if character.isspace() or not _is_unseen(character))
    return " ".join(seen.split())


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def _is_readable(character: str) -> bool:
    # Other format characters stay: Persian words and families of emoji are written with joiners.
    is_control = unicodedata.category(character) in _UNSEEN - {"Cf"}
    return character in LINES_AND_TABS or not (is_control or character in TURNING)
