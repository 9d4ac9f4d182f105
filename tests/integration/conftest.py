"""Fixtures that several modules of tests in this folder ask for."""

from __future__ import annotations

from tests.support.approval_desk import desk
from tests.support.audits import planted, settled
from tests.support.case_in_tasklist import case
from tests.support.engines import deploy, doors
from tests.support.held import held
from tests.support.late import late

__all__ = ["case", "deploy", "desk", "doors", "held", "late", "planted", "settled"]
