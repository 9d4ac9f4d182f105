"""Which texts and which JSON come in from outside: what PostgreSQL stores, and what cannot deceive whoever reads it.

The rule: an identifier is one line that is what it looks like; prose may have several lines. No text has characters that turn the direction
of the text around them (CVE-2021-42574), and no identifier has any that nobody sees (Unicode Technical Report 36). A JSON document that
cannot be stored, or that costs its reader the stack, is refused as a whole, by the same rule at every door (docs/security.md#texts-and-json).
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable
from typing import Any

LONGEST_IDENTIFIER = 200
DEEPEST = 50  # levels of a JSON document; ours have five, and the stack of Python ends at some hundred
WHOLE_NUMBERS = range(-(2**63), 2**63)  # 64 bits, as every reader of JSON can take them
LINES_AND_TABS = "\n\r\t"
TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""The bidirectional controls of Unicode (UAX 9)."""
TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"
# By general category: controls, format characters, halves of surrogate pairs, separators of lines and of paragraphs.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class UnfitJsonError(ValueError):
    """A JSON document cannot be taken. The text says why, for whoever sent it."""


def is_storable(text: str) -> bool:
    """Whether PostgreSQL stores a text: it has no NUL, and no half of a surrogate pair, which JSON can escape and UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def json_from(document: bytes | str) -> Any:
    """Parse a JSON document in UTF-8. Raises UnfitJsonError when it is none, or when `require_fit` refuses what is in it."""
    try:
        # Given bytes, the parser would guess another encoding.
        value = json.loads(document if isinstance(document, str) else document.decode())
    except RecursionError:
        raise UnfitJsonError(TOO_DEEP) from None
    except ValueError as error:
        raise UnfitJsonError(f"it is not JSON: {error}") from error
    require_fit(value)
    return value


def require_fit(value: Any) -> None:
    """Demand that a parsed document can be stored and walked through. Raises UnfitJsonError."""
    level = [value]
    for _ in range(DEEPEST + 1):
        if not level:
            return
        for each in level:
            _require_fit(each)
        level = [member for each in level for member in _members(each)]
    raise UnfitJsonError(TOO_DEEP)


def _require_fit(value: Any) -> None:
    texts: Iterable[str] = (value,) if isinstance(value, str) else value if isinstance(value, dict) else ()
    if not all(map(is_storable, texts)):
        raise UnfitJsonError("a text in it has a NUL or half of a surrogate pair, which cannot be stored")
    # The database writes a large float as a whole number.
    if isinstance(value, (int, float)) and not WHOLE_NUMBERS.start <= value < WHOLE_NUMBERS.stop:
        raise UnfitJsonError("a number in it does not fit into 64 bits")


def _members(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


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


def reason_of(error: BaseException) -> str:
    """The first line of an error's message. A database error repeats the whole statement on the lines after it."""
    return lines_of(error)[0]


def lines_of(error: BaseException) -> list[str]:
    """What an error says, line by line; the name of its class when it says nothing."""
    said = str(getattr(error, "orig", None) or error)
    return list(filter(None, map(str.strip, said.splitlines()))) or [type(error).__name__]


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _UNSEEN


def _is_readable(character: str) -> bool:
    # Other format characters stay: Persian words and families of emoji are written with joiners.
    is_control = unicodedata.category(character) in _UNSEEN - {"Cf"}
    return character in LINES_AND_TABS or not (is_control or character in TURNING)
