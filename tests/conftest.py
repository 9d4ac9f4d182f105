"""Fixtures that every test may ask for; a service starts when the first test asks for it, and never otherwise."""

from __future__ import annotations

from tests.support.services import database, stack

__all__ = ["database", "stack"]
