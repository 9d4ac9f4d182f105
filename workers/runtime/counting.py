"""Numbers of things in a sentence for a person."""

from __future__ import annotations


def counted(number: int, what: str) -> str:
    """1 tenant, 2 tenants."""
    return f"{number} {what}{'' if number == 1 else 's'}"
