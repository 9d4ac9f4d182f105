"""Fixtures that several modules of tests in this folder ask for."""

from __future__ import annotations

from tests.support.engines import deploy, doors
from tests.support.held import held

__all__ = ["deploy", "doors", "held"]
