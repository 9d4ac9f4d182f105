"""Fixtures that every test may ask for; a service starts when the first test asks for it, and never otherwise."""

from __future__ import annotations

pytest_plugins = [
    "tests.support.services",
    "tests.support.database",
    "tests.support.offers",
    "tests.support.http",
    "tests.support.topics",
]
