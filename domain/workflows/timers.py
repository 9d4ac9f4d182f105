"""Whether the moment has come that a timer of the engine waits for.

The domain asks its own clock: an operator may execute a timer's job by hand, or change its due date.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal
from sqlalchemy.orm import InstrumentedAttribute

from domain.errors import Conflict, SafeAction

CLOCKS_DIFFER = timedelta(seconds=5)  # more than synchronised clocks of engine and database ever differ, and no harm to anybody


class NotDue(Conflict):
    """The time for this has not come yet."""

    safe_action = SafeAction.NOTHING_TO_DO


def is_due(moment: InstrumentedAttribute[datetime]) -> ColumnElement[bool]:
    """For guards: the moment has come, by the clock of the database."""
    now: ColumnElement[Any] = func.clock_timestamp()
    return moment <= now + literal(CLOCKS_DIFFER)
