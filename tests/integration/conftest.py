"""Fixtures that several modules of tests in this folder ask for."""

from __future__ import annotations

from tests.support.approval_desk import desk
from tests.support.audits import planted, settled
from tests.support.engines import deploy, doors
from tests.support.late import late

__all__ = ["deploy", "desk", "doors", "late", "planted", "settled"]
