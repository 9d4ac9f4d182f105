from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtime.variables import MAX_STRING, Variable, VariableError, decode, encode


class _Decision(StrEnum):
    APPROVE = "APPROVE"


ID = UUID("00000000-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("value", "kind", "sent"),
    [
        ("text", "String", "text"),
        (True, "Boolean", True),
        (7, "Integer", 7),
        (2**31, "Long", 2**31),
        (1.5, "Double", 1.5),
        (Decimal("1E+2"), "String", "100"),
        (Decimal("19.90"), "String", "19.90"),
        (ID, "String", str(ID)),
        (_Decision.APPROVE, "String", "APPROVE"),
        (None, "Null", None),
        (b"\x00\x01", "Bytes", "AAE="),
        (date(2026, 2, 3), "String", "2026-02-03"),
        (datetime(2026, 2, 3, 4, 5, 6, 789123, timezone(timedelta(hours=2))), "Date", "2026-02-03T02:05:06.789+0000"),
        ({"value": Decimal("10.00"), "currency": "EUR"}, "Json", '{"value":"10.00","currency":"EUR"}'),
        ([{"id": ID, "at": datetime(2026, 1, 1, tzinfo=UTC)}], "Json", f'[{{"id":"{ID}","at":"2026-01-01T00:00:00+00:00"}}]'),
        (("a", frozenset({"b"})), "Json", '["a",["b"]]'),
    ],
)
def test_every_value_is_sent_with_its_type(value: Variable, kind: str, sent: Any) -> None:
    assert encode({"x": value}) == {"x": {"type": kind, "value": sent}}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "JSON cannot carry"),
        (2**63, "64 bits"),
        ("x" * (MAX_STRING + 1), "shorten it"),
        (datetime(2026, 1, 1), "time zone"),  # noqa: DTZ001 - the point
        ({"x": object()}, "cannot be sent as Json"),
        ([float("inf")], "cannot be sent as Json"),
    ],
)
def test_a_value_that_the_engine_cannot_store_is_refused_by_name_before_any_call(value: Variable, reason: str) -> None:
    with pytest.raises(VariableError, match=reason) as refusal:
        encode({"fine": 1, "theOne": value})

    assert "'theOne'" in str(refusal.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ({"type": "Json", "value": '[{"level":1}]'}, [{"level": 1}]),
        (
            {"type": "Date", "value": "2026-02-03T04:05:06.789+0200"},
            datetime(2026, 2, 3, 4, 5, 6, 789000, timezone(timedelta(hours=2))),
        ),
        ({"type": "Object", "value": '{"a":1}', "valueInfo": {"serializationDataFormat": "application/json"}}, {"a": 1}),
        ({"type": "Null", "value": None}, None),
        ({"type": "Bytes", "value": "AAE="}, b"\x00\x01"),
        ({"type": "Long", "value": 2**40}, 2**40),
    ],
)
def test_values_arrive_as_python_objects(variable: dict[str, Any], value: Any) -> None:
    assert decode({"x": variable}) == {"x": value}


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        (
            {"type": "Object", "value": "rO0AB", "valueInfo": {"serializationDataFormat": "application/x-java-serialized-object"}},
            "Java object",
        ),
        ({"type": "File", "value": "x"}, "is a file"),
        ({"type": "Json", "value": "{"}, "not JSON"),
    ],
)
def test_a_value_that_python_cannot_read_is_refused_by_name(variable: dict[str, Any], reason: str) -> None:
    with pytest.raises(VariableError, match=rf"'theOne'.*{reason}"):
        decode({"theOne": variable})


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), _JSON, max_size=5))
def test_json_shaped_values_survive_the_way_there_and_back(variables: dict[str, Any]) -> None:
    assert decode(encode(variables)) == variables
