"""Benchmarks that need an engine use the doors and processes of the integration tests."""

from __future__ import annotations

from tests.support.engines import deploy, doors

__all__ = ["deploy", "doors"]
