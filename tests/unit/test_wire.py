"""An event is the same after it was written to a message and read back; a message that is not an event is refused with the reason."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.store.outbox import PendingEvent
from workers.kafka.wire import UnreadableMessageError, decode, encode, headers_of, key_of

EVENT_ID, TENANT_ID, ORDER_ID, COMMAND_ID = (UUID(int=number) for number in range(1, 5))
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def pending(**changes: Any) -> PendingEvent:
    """Make an outbox event as the relay reads it."""
    given: dict[str, Any] = {
        "position": 1,
        "event_id": str(EVENT_ID),
        "event_type": "OrderStarted",
        "topic": "oms.order.v1",
        "tenant_id": str(TENANT_ID),
        "aggregate_type": "sales_order",
        "aggregate_id": str(ORDER_ID),
        "aggregate_version": 3,
        "command_id": str(COMMAND_ID),
        "causation_id": None,
        "business_key": f"order:{TENANT_ID}:{ORDER_ID}",
        "event_time": "2026-11-24T10:00:00.000001Z",
        "payload": '{"status": "IN_PROGRESS"}',
        "leased_until": "2026-11-24 10:00:30+00",
        **changes,
    }
    return PendingEvent(**given)


def message(**changes: Any) -> bytes:
    """Make a readable message with some fields replaced; `...` leaves a field out."""
    fields = {**json.loads(encode(pending())), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def test_an_envelope_has_the_values_of_the_outbox_event() -> None:
    causation = uuid4()
    envelope = decode(encode(pending(causation_id=str(causation))))
    assert envelope.event_id == EVENT_ID
    assert envelope.event_type == "OrderStarted"
    assert envelope.event_time == datetime(2026, 11, 24, 10, 0, 0, 1, tzinfo=UTC)
    assert envelope.tenant_id == TENANT_ID
    assert (envelope.aggregate_type, envelope.aggregate_id, envelope.aggregate_version) == ("sales_order", ORDER_ID, 3)
    assert envelope.correlation_id == envelope.business_key == f"order:{TENANT_ID}:{ORDER_ID}"
    assert envelope.causation_id == causation
    assert envelope.command_id == COMMAND_ID
    assert envelope.schema_version == 1
    assert envelope.data == {"status": "IN_PROGRESS"}


def test_an_event_without_a_process_is_correlated_by_its_aggregate() -> None:
    envelope = decode(encode(pending(business_key=None)))
    assert envelope.business_key is None
    assert envelope.causation_id is None
    assert envelope.correlation_id == f"sales_order:{ORDER_ID}"


def test_key_and_headers_name_the_aggregate_and_the_event() -> None:
    assert key_of(pending()) == str(ORDER_ID).encode()
    assert dict(headers_of(pending())) == {"eventId": str(EVENT_ID).encode(), "eventType": b"OrderStarted"}


@given(
    TEXTS.filter(bool),
    st.dictionaries(TEXTS, st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS, max_size=5),
)
def test_any_business_key_and_data_survive_the_journey(business_key: str, data: dict[str, Any]) -> None:
    envelope = decode(encode(pending(business_key=business_key, payload=json.dumps(data))))
    assert envelope.business_key == business_key
    assert envelope.data == data


@pytest.mark.parametrize(
    "field",
    [
        *("eventId", "eventType", "eventTime", "tenantId", "aggregateType", "aggregateId", "aggregateVersion", "correlationId"),
        *("causationId", "commandId", "businessKey", "schemaVersion", "data"),
    ],
)
def test_a_message_without_one_of_its_fields_is_refused_by_the_field_s_name(field: str) -> None:
    with pytest.raises(UnreadableMessageError, match=field):
        decode(message(**{field: ...}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eventId", "17"),
        ("eventId", None),
        ("eventType", ""),
        ("eventTime", "yesterday"),
        ("eventTime", "2026-11-24T10:00:00"),
        ("aggregateVersion", "3"),
        ("aggregateVersion", True),
        ("aggregateVersion", 0),
        ("causationId", 5),
        ("businessKey", 5),
        ("schemaVersion", 2),
        ("data", []),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(field: str, value: object) -> None:
    with pytest.raises(UnreadableMessageError, match=field):
        decode(message(**{field: value}))


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"{", b"[]", b"17", b"[" * 100_000, message().decode().encode("utf-16-le")])
def test_a_message_that_is_no_json_object_is_refused(value: bytes | None) -> None:
    with pytest.raises(UnreadableMessageError):
        decode(value)
