"""Which times are taken: those that PostgreSQL stores and that can be read back in every time zone."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from domain.times import EARLIEST, LATEST, UnfitTimeError, in_utc, nearest
from tests.unit.test_wire import message
from workers.kafka.wire import UnreadableMessageError, decode, read_member
from workers.runtime.kafka_reading import time_of

UNFIT = (
    "0001-01-01T00:00:00+14:00",
    "0001-06-01T00:00:00Z",
    "9999-12-31T23:59:59-14:00",
    "9999-01-01T00:00:00+00:00",
    "9998-12-31T23:59:59-14:00",
    "0002-01-01T00:00:00+00:01",
    "2026-01-01T00:00:00",
)


@pytest.mark.parametrize("text", UNFIT)
def test_a_time_that_not_everybody_can_read_back_is_refused(text: str) -> None:
    with pytest.raises(UnfitTimeError):
        in_utc(datetime.fromisoformat(text))


def test_a_time_is_taken_in_utc() -> None:
    taken = in_utc(datetime.fromisoformat("2026-01-01T00:00:00+20:00"))

    assert (taken, taken.tzinfo) == (datetime(2025, 12, 31, 4, tzinfo=UTC), UTC)


@pytest.mark.parametrize("end", [EARLIEST, LATEST])
@pytest.mark.parametrize("hours", [-23, 23])
def test_a_time_at_either_end_can_be_read_in_every_zone(end: datetime, hours: int) -> None:
    assert in_utc(end).astimezone(timezone(timedelta(hours=hours))) == end


@pytest.mark.parametrize("text", UNFIT)
@pytest.mark.parametrize("name", ["validUntil", "eventTime"])
def test_a_record_with_such_a_time_is_unreadable(name: str, text: str) -> None:
    with pytest.raises(UnreadableMessageError, match=name):
        decode(message(eventTime=text)) if name == "eventTime" else read_member({name: text}, name, datetime)


def test_a_record_s_time_is_read_in_utc() -> None:
    """Kills: an offset of 16 hours and more, which PostgreSQL refuses."""
    assert read_member({"validUntil": "2026-01-01T00:00:00+20:00"}, "validUntil", datetime).tzinfo is UTC


@pytest.mark.parametrize("milliseconds", [-(2**63), -62135596800001, -1, 0, 1_764_000_000_123, 253402300800000, 2**63 - 1])
def test_every_record_in_kafka_has_a_time(milliseconds: int) -> None:
    record = SimpleNamespace(timestamp=lambda: (1, milliseconds))

    time = time_of(record)  # type: ignore[arg-type]  # all that it reads

    assert EARLIEST <= time <= LATEST
    assert 1 < time.astimezone(timezone(timedelta(hours=14))).year < MAXYEAR + 1


def test_a_time_that_can_be_read_stays_and_others_keep_their_order() -> None:
    assert nearest(1_764_000_000_123) == datetime(2025, 11, 24, 16, 0, 0, 123_000, tzinfo=UTC)
    assert nearest(-(2**63)) < nearest(0) < nearest(2**63 - 1)
