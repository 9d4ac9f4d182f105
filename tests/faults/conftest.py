"""Fixtures of the tests that break the connection to the real engine."""

from __future__ import annotations

from tests.support.engines import deploy, doors

__all__ = ["deploy", "doors"]
