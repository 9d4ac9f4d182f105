"""The payload of an event is encoded on its way to the database, in the form that the same row has over HTTP."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from domain.store.base import as_json, in_camel_case
from domain.store.sending import to_json


class State(StrEnum):
    OPEN = "OPEN"


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**62), 2**62),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.just(State.OPEN),
    st.uuids(),
    st.decimals(allow_nan=False, allow_infinity=False, places=2),
    st.dates(),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["line_no", "id"]), inner), max_leaves=6
)


@given(st.dictionaries(st.sampled_from(["tenant_id", "quote_revision_id", "status", "lines"]), VALUES))
def test_an_event_has_the_values_of_the_row(row: dict[str, object]) -> None:
    assert json.loads(to_json(in_camel_case(row))) == json.loads(json.dumps(as_json(row)))


def test_names_ids_money_and_times_have_their_form() -> None:
    row = {
        "quote_id": UUID(int=1),
        "list_price": Decimal("12.50"),
        "valid_until": datetime(2026, 11, 24, tzinfo=UTC),
        "day": date(2026, 1, 2),
    }

    assert json.loads(to_json(in_camel_case(row))) == {
        "quoteId": "00000000-0000-0000-0000-000000000001",
        "listPrice": "12.50",
        "validUntil": "2026-11-24T00:00:00+00:00",
        "day": "2026-01-02",
    }
