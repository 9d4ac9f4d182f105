"""Fixtures of the tests that talk to the real engine."""

from __future__ import annotations

from tests.support.audits import planted, settled
from tests.support.engines import deploy, doors

__all__ = ["deploy", "doors", "planted", "settled"]
