"""Which times come in from outside: those that PostgreSQL stores and everybody can read back.

The rule: the year has four digits in every time zone. PostgreSQL itself takes more, but gives a time back in the zone of the session, and
a reader whose calendar ends there fails on the whole list that has the time. So the rule is the same at every door.
"""

from __future__ import annotations

from datetime import MAXYEAR, MINYEAR, UTC, datetime, timedelta

# No time zone is a year away from UTC, so a year less at either end is enough.
EARLIEST = datetime(MINYEAR + 1, 1, 1, tzinfo=UTC)
LATEST = datetime(MAXYEAR, 1, 1, tzinfo=UTC) - timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class UnfitTimeError(ValueError):
    """A time cannot be taken. The text says why, for whoever sent it."""


def in_utc(moment: datetime) -> datetime:
    """Convert a time to UTC. PostgreSQL refuses offsets of 16 hours or more. Raises UnfitTimeError."""
    if moment.tzinfo is None:
        raise UnfitTimeError("a time needs a time zone")
    # Comparing works for every time, while changing the zone fails for one whose year in UTC is not there.
    if not EARLIEST <= moment <= LATEST:
        raise UnfitTimeError(f"the year must lie between {EARLIEST.year} and {LATEST.year} in UTC")
    return moment.astimezone(UTC)


def nearest(milliseconds: int) -> datetime:
    """The time so many milliseconds after 1970, or the nearest one that is taken: times keep their order, however far off they are."""
    first, last = ((end - _EPOCH) // _MILLISECOND for end in (EARLIEST, LATEST))
    return _EPOCH + min(max(milliseconds, first), last) * _MILLISECOND
