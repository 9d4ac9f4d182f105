"""Fixtures that several modules of tests in this folder ask for."""

from __future__ import annotations

from tests.support.approval_desk import desk
from tests.support.audits import planted, settled
from tests.support.case_in_tasklist import case
from tests.support.engine_site import site
from tests.support.engines import deploy, doors
from tests.support.held import held
from tests.support.late import late
from tests.support.links.link import link
from tests.support.wanted import dispatcher
from tests.support.watched import watched, work

__all__ = [
    "case",
    "deploy",
    "desk",
    "dispatcher",
    "doors",
    "held",
    "late",
    "link",
    "planted",
    "settled",
    "site",
    "watched",
    "work",
]
