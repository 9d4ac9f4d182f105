"""Which characters a text may have."""

from __future__ import annotations


def is_storable(text: str) -> bool:
    """Whether PostgreSQL stores a text: it has no NUL, and no half of a surrogate pair, which JSON can escape and UTF-8 cannot write."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
